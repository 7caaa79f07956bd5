//! A worker: one thread with a current-thread runtime, its own listening sockets, and a task per connection.

use std::io;
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};

use super::DataOptions;
use super::context::WorkerContext;
use super::listener;
use super::route::RouteWatch;
use super::state::DataPlaneState;
use super::table::FlowOrder;

/// Commands to a worker, from any thread.
pub(crate) enum WorkerCommand {
    /// Start accepting on these sockets.
    Open(Vec<(TcpListener, RouteWatch)>, oneshot::Sender<()>),
    /// Respond, for the health check.
    Answer(oneshot::Sender<()>),
    /// Stop, ending all remaining flows.
    Stop,
    /// Run this instead: panic or block.
    #[cfg(test)]
    Run(Box<dyn FnOnce() + Send>),
}

/// Runs a worker on the current thread until it is stopped. `started` receives whether it started.
pub(crate) fn run(
    index: usize,
    state: Arc<DataPlaneState>,
    options: DataOptions,
    commands: mpsc::UnboundedReceiver<WorkerCommand>,
    started: &std::sync::mpsc::SyncSender<io::Result<()>>,
) {
    // No time driver: see `clock`.
    let runtime = match Builder::new_current_thread().enable_io().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => return started.send(Err(error)).unwrap_or(()),
    };
    let work = async {
        match WorkerContext::new(index, state, options) {
            Ok(ctx) => {
                let _ = started.send(Ok(()));
                work(&ctx, commands).await;
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        }
    };
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(work)));
    // Dropped before the panic resumes, so that connections do not report it as their own.
    drop(runtime);
    if let Err(panic) = ended {
        resume_unwind(panic);
    }
}

async fn work(ctx: &Rc<WorkerContext>, mut commands: mpsc::UnboundedReceiver<WorkerCommand>) {
    loop {
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                Some(WorkerCommand::Open(opened, done)) => {
                    opened.into_iter().for_each(|(socket, route_watch)| listener::open(ctx, socket, route_watch));
                    let _ = done.send(());
                }
                Some(WorkerCommand::Answer(answer)) => {
                    let _ = answer.send(());
                }
                Some(WorkerCommand::Stop) | None => return,
                #[cfg(test)]
                Some(WorkerCommand::Run(how)) => how(),
            },
            tick = ctx.clock.next_tick() => {
                check_silent_flows(ctx, tick.expect("a timerfd can be read"));
                // If several ticks are overdue, for example after SIGSTOP, connections read received bytes in between.
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Orders silent flows to check their idle time-out.
fn check_silent_flows(ctx: &WorkerContext, now: u32) {
    ctx.wheel.borrow_mut().advance(now, |id| {
        let record = ctx.state.table.get(*id)?;
        if record.is_silent(now) {
            // No effect on a frozen flow, which is checked after it thaws.
            record.set_order(FlowOrder::CheckIdle);
        }
        Some(record.next_check(now))
    });
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
