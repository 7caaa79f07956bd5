//! One flow, from admission to its end: a state machine that its worker polls whenever there is news of it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::{SendFlags, send};
use socket2::SockRef;
use tokio::time::Instant;

use super::choose::Seat;
use super::connect::{Source, begin};
use super::fault::{self, Fate, FaultyRelay, Plight};
use super::keepalive::Watch;
use super::leg::Leg;
use super::listener::ListenerState;
use super::local::Local;
use super::poll::{Key, News, Token};
use super::proxy_protocol;
use super::relay::{Failed, Relay};
use super::socket::Socket;
use super::table::{FlowRecord, Order};
use super::tally::Tally;
use super::worker::Turn;
use crate::model::{ConnectError, FlowEnd, Origin, Side};
use crate::plan::Gate;

/// How long the sockets of a forgotten flow are kept for the RST that later bytes are to meet. A load balancer keeps
/// nothing; here each holds two descriptors, so not for ever.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// An admitted connection.
#[derive(Debug)]
pub(crate) struct Flow {
    tally: Tally,
    client: Socket,
    target: Option<Socket>,
    key: Key,
    phase: Phase,
    /// What is wrong with it, until it relays.
    plight: Option<Box<Plight>>,
    /// What the looks at it in its silence found.
    watch: Option<Box<Watch>>,
}

/// How far a flow has come.
#[derive(Debug)]
enum Phase {
    /// Its connection to the target is being made.
    Dialing { since: Instant },
    /// Both sides talk.
    Relaying(Relay),
    /// Likewise, with faults.
    Faulty(Box<(Relay, FaultyRelay)>),
    /// The target's side is gone by a fault, and the client isn't told.
    HalfOpen,
    /// It was silent for too long, and nobody was told: whatever comes meets RST, as on NLB. Which sides, client and target,
    /// have finished and can say nothing more.
    Forgotten { finished: [bool; 2] },
}

impl Flow {
    pub(crate) fn new(
        local: &Rc<Local>,
        state: &ListenerState,
        client: Socket,
        address: SocketAddr,
        origin: Origin,
        seat: Seat,
        plight: Option<Box<Plight>>,
    ) -> Self {
        let record = Arc::new(FlowRecord::new(
            seat.flow,
            address,
            origin,
            Arc::clone(&state.listener),
            u16::try_from(seat.member).unwrap_or(u16::MAX),
            u16::try_from(local.index).unwrap_or(u16::MAX),
            Arc::clone(&state.series),
            local.tick(),
            local.ticks(state.listener.group.connect_timeout),
            plight.as_ref().map(|plight| plight.names()).unwrap_or_default(),
        ));
        Self {
            tally: Tally::open(Rc::clone(local), record, seat),
            client,
            target: None,
            key: Key { slot: u32::MAX, generation: 0 },
            phase: Phase::Dialing { since: Instant::now() },
            plight,
            watch: None,
        }
    }

    /// Takes its seat, where orders and the tick find it.
    pub(crate) fn enter(&mut self, key: Key) {
        self.key = key;
        let (local, record) = (&self.tally.local, &self.tally.record);
        record.slot.store(key.slot, std::sync::atomic::Ordering::Relaxed);
        let idle = local.ticks(record.listener.group.idle_timeout);
        local.look_at(key.slot, record, record.deadline().min(local.tick() + local.step(idle)));
    }

    /// What the table holds of it.
    pub(crate) fn record(&self) -> &Arc<FlowRecord> {
        &self.tally.record
    }

    /// The client's connection, where the rest is over.
    pub(crate) fn into_client(self) -> Socket {
        self.client
    }

    /// Takes in what the poller says of one side.
    #[inline]
    pub(crate) fn hear(&mut self, side: Side, news: News) {
        match side {
            Side::Client => self.client.hear(news),
            Side::Target => {
                if let Some(target) = &mut self.target {
                    target.hear(news);
                }
            }
        }
    }

    /// Goes on for as long as it can.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Turn {
        match &mut self.phase {
            Phase::Relaying(_) => self.relay(cx),
            Phase::Dialing { .. } => self.dial(cx),
            Phase::Faulty(_) => self.relay_with_faults(cx),
            Phase::HalfOpen => self.stay_half_open(cx),
            Phase::Forgotten { finished } => {
                let finished = *finished;
                self.stay_forgotten(finished)
            }
        }
    }

    /// Connects to the flow's member; gives up when its patience ends or it is told to.
    fn dial(&mut self, cx: &mut Context<'_>) -> Turn {
        let record = &self.tally.record;
        let member = record.member();
        match record.order() {
            Order::Frozen => return Turn::Wait,
            Order::Cut(reason) => return self.fail_to_dial(FlowEnd::Drained(reason)),
            Order::Expire => return self.fail_to_dial(FlowEnd::Unreachable(ConnectError::TimedOut)),
            Order::None if member.faulted && member.reach == Some(ConnectError::Refused) => {
                return self.fail_to_dial(FlowEnd::Unreachable(ConnectError::Refused));
            }
            // Until patience ends, as no answer comes.
            Order::None if member.faulted => return Turn::Wait,
            Order::None => {}
        }
        let Some(target) = &self.target else {
            return match self.call() {
                Ok(target) => {
                    self.target = Some(target);
                    Turn::Wait
                }
                Err(error) => self.fail_to_dial(FlowEnd::Unreachable(ConnectError::from(&error))),
            };
        };
        if !target.is_settled() {
            return Turn::Wait;
        }
        if let Some(error) = target.take_error() {
            return self.fail_to_dial(FlowEnd::Unreachable(ConnectError::from(&error)));
        }
        match self.begin_to_relay() {
            Ok(()) => self.poll(cx),
            Err(end) => self.fail_to_dial(end),
        }
    }

    /// A socket that is connecting to the flow's member.
    fn call(&self) -> std::io::Result<Socket> {
        let (local, record) = (&self.tally.local, &self.tally.record);
        let source = match record.listener.group.source_addresses.as_slice() {
            [] => None,
            pool => Some(Source { pool, turn: local.next_source() }),
        };
        let mut target = Socket::new(begin(record.member().address, source, &local.options.leg)?);
        target.watch(&local.poller, Token::Connection(self.key, Side::Target))?;
        Ok(target)
    }

    /// The target has taken the connection.
    fn begin_to_relay(&mut self) -> Result<(), FlowEnd> {
        let (local, record) = (&self.tally.local, &self.tally.record);
        let (group, Some(target)) = (&record.listener.group, &self.target) else {
            unreachable!("whoever calls this has connected");
        };
        if let Phase::Dialing { since } = &self.phase {
            record.series.connect_time.record(since.elapsed().as_secs_f64());
        }
        if group.proxy_protocol {
            let vpce = match &record.listener.gate {
                Gate::Endpoint(endpoint) => Some(&endpoint.id),
                Gate::Public { .. } => None,
            };
            let header = proxy_protocol::encode(record.client, record.listener.address, vpce);
            // The socket is new and empty, so the header fits whole. More follows: header and first payload share a
            // segment.
            match send(target, &header, SendFlags::MORE | SendFlags::NOSIGNAL) {
                Ok(n) if n == header.len() => {}
                Ok(_) | Err(_) => return Err(FlowEnd::Failed { side: Side::Target, reset: true }),
            }
        }
        self.client
            .watch(&local.poller, Token::Connection(self.key, Side::Client))
            .map_err(|error| FlowEnd::Unreachable(ConnectError::from(&error)))?;
        let idle = local.ticks(group.idle_timeout);
        record.wait_for(local.tick(), idle, local.step(idle));
        self.phase = match self.plight.take() {
            None => Phase::Relaying(Relay::new()),
            Some(plight) => {
                local.options.leg.keep_alive(&SockRef::from(target));
                Phase::Faulty(Box::new((Relay::new(), FaultyRelay::new(&plight))))
            }
        };
        Ok(())
    }

    fn fail_to_dial(&mut self, end: FlowEnd) -> Turn {
        if end == FlowEnd::Unreachable(ConnectError::PortAllocation) {
            self.tally.close(end);
            return Turn::Hold;
        }
        if let FlowEnd::Unreachable(ConnectError::Refused | ConnectError::TimedOut | ConnectError::NoRoute) = end {
            self.tally.local.shared.failed_dial(self.tally.record.member().address);
        }
        self.end(end, [false; 2])
    }

    /// Relays until both sides are done, one fails, the flow has been silent for too long, or it is told to end.
    #[inline]
    fn relay(&mut self, cx: &mut Context<'_>) -> Turn {
        if let Some(turn) = self.obey() {
            return turn;
        }
        let (Phase::Relaying(relay), Some(target)) = (&mut self.phase, &mut self.target) else {
            unreachable!("a flow that relays has a target");
        };
        let meter = self.tally.meter();
        let moved = relay.poll(cx, &mut self.client, target, &self.tally.local.tools, &meter);
        let end = match moved {
            Poll::Ready(Ok(())) => FlowEnd::Completed,
            Poll::Ready(Err(failed)) => failed.as_end(),
            Poll::Pending => match unheard(relay, &self.client, target) {
                Some(failed) => failed.as_end(),
                None => return Turn::Wait,
            },
        };
        let finished = relay.finished();
        self.end(end, finished)
    }

    /// Relays as [`relay`](Self::relay) does, with what is wrong.
    fn relay_with_faults(&mut self, cx: &mut Context<'_>) -> Turn {
        if let Some(turn) = self.obey() {
            return turn;
        }
        let (Phase::Faulty(parts), Some(target)) = (&mut self.phase, &mut self.target) else {
            unreachable!("a flow that relays has a target");
        };
        let (relay, faulty) = &mut **parts;
        let (wake_at, meter) = (Cell::new(None), self.tally.meter());
        let sides = [&mut self.client, &mut *target];
        match faulty.poll(cx, relay, sides, &self.tally.local.tools, &meter, &wake_at) {
            Poll::Ready(Fate::Ended(end)) => {
                let finished = relay.finished();
                self.end(end, finished)
            }
            Poll::Ready(Fate::HalfOpen) => {
                fault::leave_target(target);
                self.phase = Phase::HalfOpen;
                self.poll(cx)
            }
            Poll::Pending => match (unheard(relay, &self.client, target), wake_at.get()) {
                (Some(failed), _) => self.end(failed.as_end(), [false; 2]),
                (None, Some(at)) => Turn::WaitUntil(at),
                (None, None) => Turn::Wait,
            },
        }
    }

    /// Takes what the client sends and forgets it, until the client or an order ends it.
    fn stay_half_open(&mut self, cx: &mut Context<'_>) -> Turn {
        if let Some(turn) = self.obey() {
            return turn;
        }
        let mut sink = self.tally.local.tools.scratch.read();
        let end = match self.client.poll_take(cx, &mut sink) {
            Poll::Ready(Ok(0)) => FlowEnd::Completed,
            Poll::Ready(Ok(_)) => {
                self.tally.record.touch(self.tally.local.tick());
                return Turn::Again;
            }
            Poll::Ready(Err(_)) => FlowEnd::Failed { side: Side::Client, reset: true },
            Poll::Pending => return Turn::Wait,
        };
        drop(sink);
        self.end(end, [false; 2])
    }

    /// Waits until either side of a forgotten flow says anything. A side that has finished can say nothing more; its FIN was
    /// before. Over without a word when the silence has lasted for [`FORGOTTEN`].
    fn stay_forgotten(&mut self, finished: [bool; 2]) -> Turn {
        let spoken = |side: Option<&Socket>, finished: bool| !finished && side.is_some_and(Socket::has_something);
        let is_spoken_to = spoken(Some(&self.client), finished[0]) || spoken(self.target.as_ref(), finished[1]);
        match self.tally.record.order() {
            Order::Cut(_) => {}
            _ if is_spoken_to => {}
            Order::Expire => return Turn::Over,
            Order::None => return Turn::Wait,
            Order::Frozen => {
                // There is nothing left to stop, and whoever goes on afterwards would not know of it.
                self.tally.record.thaw();
                return Turn::Wait;
            }
        }
        self.tally.shard().gateway_resets.add(1);
        self.reset();
        Turn::Over
    }

    /// Does what it has been told, if it has; `None`: it may go on.
    #[inline]
    fn obey(&mut self) -> Option<Turn> {
        match self.tally.record.order() {
            Order::None => None,
            Order::Frozen => Some(Turn::Wait),
            Order::Cut(reason) => Some(self.end(FlowEnd::Drained(reason), [false; 2])),
            Order::Expire => {
                self.look();
                if self.tally.record.deadline() <= self.tally.local.tick() {
                    let finished = match &self.phase {
                        Phase::Relaying(relay) => relay.finished(),
                        Phase::Faulty(parts) => parts.0.finished(),
                        // Its target was taken leave of.
                        Phase::HalfOpen => [false, true],
                        Phase::Dialing { .. } | Phase::Forgotten { .. } => [false; 2],
                    };
                    return Some(self.end(FlowEnd::Idle, finished));
                }
                self.go_on();
                None
            }
        }
    }

    /// Has the kernel probe the target of a flow that has fallen silent, and counts a keepalive probe from either side as
    /// activity. The client's side has it from its listener.
    fn look(&mut self) {
        let (local, record, Some(target)) = (&self.tally.local, &self.tally.record, &self.target) else { return };
        let watch = self.watch.get_or_insert_default();
        if watch.is_first() {
            local.options.leg.keep_alive(&SockRef::from(target));
        }
        if let Some(diag) = &local.diag
            && watch.look(diag, [&self.client, target], record.last_active(), local.options.leg.keepalive)
        {
            record.touch(local.tick());
        }
    }

    /// Takes back an order to expire: the flow moved meanwhile.
    fn go_on(&self) {
        self.tally.record.clear_expire();
        self.look_again();
    }

    /// Has the tick look at it again.
    fn look_again(&self) {
        let (local, record) = (&self.tally.local, &self.tally.record);
        local.look_at(self.key.slot, record, record.next_look(local.tick()));
    }

    /// Notes the end and lets both sides see it.
    fn end(&mut self, end: FlowEnd, finished: [bool; 2]) -> Turn {
        self.tally.close(end);
        match end {
            FlowEnd::Completed => Turn::Over,
            FlowEnd::Idle => {
                let (local, record) = (&self.tally.local, &self.tally.record);
                let forgotten = local.ticks(FORGOTTEN);
                record.wait_for(local.tick(), forgotten, forgotten);
                self.go_on();
                self.phase = Phase::Forgotten { finished };
                self.stay_forgotten(finished)
            }
            FlowEnd::Drained(_) | FlowEnd::Unreachable(_) | FlowEnd::Failed { .. } => {
                self.reset();
                Turn::Over
            }
        }
    }

    /// Has both sides see RST.
    pub(crate) fn reset(&self) {
        self.client.reset();
        if let Some(target) = &self.target {
            target.reset();
        }
    }
}

/// The side that sent RST without anybody reading it: while a way waits for its sink, or has ended, nobody reads its
/// source.
#[inline]
fn unheard(relay: &Relay, client: &Socket, target: &Socket) -> Option<Failed> {
    if !(client.is_over() || target.is_over()) || !relay.is_deaf() {
        return None;
    }
    let sides = [(client, Side::Client), (target, Side::Target)];
    sides.into_iter().find_map(|(socket, side)| socket.take_error().map(|error| Failed { side, error }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_stays_small() {
        let flow = size_of::<Flow>();
        assert!(flow <= 256, "a flow takes {flow} bytes");
        let record = size_of::<FlowRecord>();
        assert!(record <= 192, "a flow's record takes {record} bytes");
    }
}
