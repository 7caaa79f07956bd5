//! The stand-ins behind the gateway, provided by the quickstart and the lab.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::model::{StandInCommand, StandInMember, StandInRefusal};

/// Sends an operator's commands to the stand-ins.
#[derive(Clone)]
pub struct StandInControl(Arc<RunCommand>);

type RunCommand =
    dyn Fn(StandInCommand) -> BoxFuture<'static, Result<Vec<StandInMember>, StandInRefusal>> + Send + Sync;

impl StandInControl {
    /// `run` executes commands, and returns the members' state afterwards.
    pub fn new(
        run: impl Fn(StandInCommand) -> BoxFuture<'static, Result<Vec<StandInMember>, StandInRefusal>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self(Arc::new(run))
    }

    /// Runs a command.
    ///
    /// # Errors
    ///
    /// [`StandInRefusal`]; nothing was changed.
    pub async fn run(&self, command: StandInCommand) -> Result<Vec<StandInMember>, StandInRefusal> {
        (self.0)(command).await
    }
}

impl fmt::Debug for StandInControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StandInControl").finish_non_exhaustive()
    }
}
