//! Whether a silent flow's peers probe it: on NLB a keepalive packet from either side restarts the idle timer.
//!
//! A flow is checked a few times in its silence, and only then; one that moves bytes costs nothing.

use std::time::Duration;

use tokio::time::Instant;

use super::sock_diag::{Seen, SockDiag};
use super::socket::Socket;

/// How many times in its idle time-out a silent flow is checked: a probe counts from the check that finds it, so expiry is
/// late by this part of the time-out at most.
pub(crate) const CHECKS: u32 = 8;

/// What the last check of a silent flow found.
#[derive(Debug, Default)]
pub(crate) struct ProbeWatch {
    legs: Option<[(Seen, Instant); 2]>,
    /// The tick at which the flow had been active last.
    silent_since: u32,
    begun: bool,
}

impl ProbeWatch {
    /// True the first time that it is asked.
    pub(crate) fn is_first(&mut self) -> bool {
        !std::mem::replace(&mut self.begun, true)
    }

    /// Asks the kernel about both sides; true when one of them sent a probe since the last check in the same silence.
    ///
    /// `own` is how often the kernel probes for us: each of our probes brings one segment in, and its acknowledgement
    /// shows as the latest one, which a peer's probe does not.
    pub(crate) fn found_probe(
        &mut self,
        diag: &SockDiag,
        sides: [&Socket; 2],
        silent_since: u32,
        own: Option<Duration>,
    ) -> bool {
        let now = Instant::now();
        let seen = sides.map(|side| {
            let (local, peer) = side.addresses()?;
            diag.ask(local, peer).map(|seen| (seen, now))
        });
        let [Some(client), Some(target)] = seen else { return false };
        let before = self.legs.replace([client, target]);
        let same_silence = std::mem::replace(&mut self.silent_since, silent_since) == silent_since;
        let Some(before) = before.filter(|_| same_silence) else { return false };
        before
            .iter()
            .zip([client, target])
            .any(|(before, now)| now.0.segments.wrapping_sub(before.0.segments) > answers_to_own(*before, now, own))
    }
}

/// How many segments between two checks were answers to our own probes.
fn answers_to_own(before: (Seen, Instant), now: (Seen, Instant), own: Option<Duration>) -> u32 {
    let Some(own) = own else { return 0 };
    let acked = |(seen, at): (Seen, Instant)| at.checked_sub(Duration::from_millis(u64::from(seen.since_ack)));
    let (Some(before), Some(now)) = (acked(before), acked(now)) else { return 0 };
    let moved = now.saturating_duration_since(before).as_secs_f64() / own.as_secs_f64();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few, and never negative")]
    let answers = moved.round() as u32;
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_own_probes_are_told_from_probes() {
        let start = Instant::now() + Duration::from_secs(1000);
        let at = |seconds: u64, segments, since_ack| {
            (Seen { segments, segments_out: 0, since_ack }, start + Duration::from_secs(seconds))
        };
        let own = Some(Duration::from_secs(120));
        // The latest acknowledgement moved from second 0 to second 120.
        assert_eq!(answers_to_own(at(44, 5, 44_000), at(131, 6, 11_000), own), 1);
        // It did not move: whatever came in was no answer.
        assert_eq!(answers_to_own(at(44, 5, 44_000), at(88, 6, 88_000), own), 0);
        assert_eq!(answers_to_own(at(44, 5, 44_000), at(131, 6, 11_000), None), 0);
    }
}
