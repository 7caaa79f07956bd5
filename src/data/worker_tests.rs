//! A worker by itself, with connections that do as a test says.

use std::fmt;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use super::*;
use crate::data::local::WorkerOptions;
use crate::data::metrics::DataMetrics;
use crate::data::poll::Poller;
use crate::data::shared::Shared;
use crate::telemetry::Registry;

/// What a connection does whenever it is polled.
pub(crate) struct Script(Box<dyn FnMut() -> Turn + Send>);

impl Script {
    pub(crate) fn poll(&mut self) -> Turn {
        (self.0)()
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").finish_non_exhaustive()
    }
}

fn worker() -> (Worker, Commands) {
    let (losses, _) = tokio::sync::mpsc::unbounded_channel();
    let (failed, _) = tokio::sync::mpsc::channel(1);
    let shared = Arc::new(Shared::new(1, DataMetrics::new(Registry::new().shared_recorder()), None, losses, failed));
    let options = WorkerOptions {
        scratch: 4096,
        pipes: 0,
        pipe_size: 0,
        accepts_per_wake: 1,
        backlog: 1,
        held_refusals: 1,
        hold_time: Duration::from_secs(1),
        leg: crate::data::connect::LegOptions::default(),
        tick: Duration::from_secs(1),
    };
    let poller = Poller::new().expect("epoll");
    let bell = Arc::new(Bell::new(&poller).expect("an eventfd"));
    let (queue, received) = channel();
    let commands = Commands::new(queue, Arc::clone(&bell));
    (Worker::new(Local::new(0, shared, options, poller), received, bell).expect("a clock"), commands)
}

fn seat(worker: &mut Worker, script: impl FnMut() -> Turn + Send + 'static) {
    worker.seat(Entry::Scripted(Script(Box::new(script))));
}

/// What happened, in order.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<&'static str>>>);

impl Diary {
    fn note(&self, what: &'static str) -> usize {
        let mut notes = self.0.lock().expect("no test panics in here");
        notes.push(what);
        notes.iter().filter(|note| **note == what).count()
    }

    fn read(&self) -> Vec<&'static str> {
        self.0.lock().expect("no test panics in here").clone()
    }
}

#[test]
fn who_panics_is_closed_and_takes_nobody_s_turn_or_command_along() {
    let (mut worker, commands) = worker();
    let diary = Diary::default();
    for name in ["first", "loud", "last"] {
        let diary = diary.clone();
        seat(&mut worker, move || match (diary.note(name), name) {
            (1, _) => Turn::Again,
            (_, "loud") => panic!("as asked"),
            _ => Turn::Wait,
        });
    }
    commands.send(Command::Misbehave(Box::new(|worker| assert_eq!(worker.entries.len(), 2, "two are left"))));
    // The bell is heard after the three had their second turn, as that was promised before anybody waited for news.
    commands.send(Command::Stop);
    worker.run();
    assert_eq!(diary.read(), ["first", "loud", "last", "first", "loud", "last"]);
}

#[test]
fn who_gives_way_gets_one_turn_a_round_however_often_it_is_told_of_news() {
    let (mut worker, commands) = worker();
    let diary = Diary::default();
    let notes = diary.clone();
    seat(&mut worker, move || {
        notes.note("busy");
        Turn::Again
    });
    let key = *worker.again.front().expect("it gave way");
    for _ in 0..100 {
        worker.poll_again(key);
    }
    assert_eq!(worker.again.len(), 1);
    commands.send(Command::Stop);
    worker.run();
    assert_eq!(diary.read(), ["busy"; 2]);
}

#[test]
fn a_connection_has_one_timer_and_none_when_it_is_gone() {
    let (mut worker, commands) = worker();
    let start = Instant::now();
    let mut times = vec![Duration::from_millis(1), Duration::from_secs(1), Duration::from_secs(60)];
    let commands = Arc::new(commands);
    let stop = Arc::clone(&commands);
    seat(&mut worker, move || match times.pop() {
        // Each one earlier than that before: the later ones are taken back.
        Some(time) => Turn::WaitUntil(start + time),
        None => {
            stop.send(Command::Stop);
            Turn::Over
        }
    });
    let key = Key { slot: 0, generation: worker.generation };
    worker.poll(key);
    worker.poll(key);
    assert_eq!(worker.timers.wait().map(|wait| wait <= Duration::from_millis(1)), Some(true));
    assert!(worker.timers.due(start + Duration::from_secs(3600)).is_some());
    assert!(worker.timers.is_empty(), "the two others were taken back");
    worker.timers.set(start, Due::Connection(key));
    worker.run();
}

#[test]
fn news_of_who_had_the_slot_before_are_nobody_s() {
    let (mut worker, _commands) = worker();
    seat(&mut worker, || Turn::Over);
    let before = Key { slot: 0, generation: worker.generation };
    let diary = Diary::default();
    let notes = diary.clone();
    seat(&mut worker, move || {
        notes.note("polled");
        Turn::Wait
    });
    assert_eq!(worker.entries.len(), 1, "in the same slot");
    worker.poll(before);
    worker.poll_again(before);
    assert!(worker.again.is_empty());
    assert_eq!(diary.read(), ["polled"]);
}
