//! A worker: one thread, one current-thread runtime, its own listening sockets and its own connections, each a task.

use std::io;
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};

use super::context::{WorkerContext, WorkerOptions};
use super::listener;
use super::route::Routes;
use super::state::DataPlaneState;
use super::table::Order;

/// What a worker is asked to do, from any thread.
pub(crate) enum Command {
    /// Accept on these sockets.
    Open(Vec<(TcpListener, Routes)>, oneshot::Sender<()>),
    /// Answer, as a sign of life.
    Answer(oneshot::Sender<()>),
    /// End, with every flow that is left.
    Stop,
    /// Do something else: panic, or block.
    #[cfg(test)]
    Misbehave(Box<dyn FnOnce() + Send>),
}

/// Works on the present thread until it is asked to stop. `started` receives when it works, or why it does not.
pub(crate) fn run(
    index: usize,
    state: Arc<DataPlaneState>,
    options: WorkerOptions,
    commands: mpsc::UnboundedReceiver<Command>,
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
    // Before the panic goes on: the connections did not panic, and should not say so.
    drop(runtime);
    if let Err(panic) = ended {
        resume_unwind(panic);
    }
}

async fn work(ctx: &Rc<WorkerContext>, mut commands: mpsc::UnboundedReceiver<Command>) {
    loop {
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                Some(Command::Open(opened, done)) => {
                    opened.into_iter().for_each(|(socket, routes)| listener::open(ctx, socket, routes));
                    let _ = done.send(());
                }
                Some(Command::Answer(answer)) => {
                    let _ = answer.send(());
                }
                Some(Command::Stop) | None => return,
                #[cfg(test)]
                Some(Command::Misbehave(how)) => how(),
            },
            tick = ctx.clock.next_tick() => {
                check_silent_flows(ctx, tick.expect("a timer of its own can be read"));
                // Where several ticks are due, as after a stop of the process, bytes that came meanwhile are read in between.
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Orders the flows that have been silent for a while to check whether it was too long.
fn check_silent_flows(ctx: &WorkerContext, now: u32) {
    ctx.wheel.borrow_mut().turn(now, |id| {
        let record = ctx.state.table.get(*id)?;
        if record.is_silent(now) {
            // A frozen one goes on first, and is checked afterwards.
            record.give(Order::CheckIdle);
        }
        Some(record.next_check(now))
    });
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
