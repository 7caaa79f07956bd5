//! Detects keepalive probes of a silent flow's peers: on NLB a keepalive packet from either side restarts the idle
//! timer.
//!
//! Only silent flows are checked, a few times per idle time-out.

use std::time::Duration;

use tokio::time::Instant;

use super::sock_diag::{SockDiag, TcpCounters};
use super::socket::Socket;

/// Checks of a silent flow per idle time-out. A probe counts from the check that finds it, so expiry is late by at most
/// this fraction of the time-out.
pub(crate) const CHECKS: u32 = 8;

/// The result of the last check of a silent flow.
#[derive(Debug, Default)]
pub(crate) struct ProbeWatch {
    legs: Option<[(TcpCounters, Instant); 2]>,
    /// The tick of the flow's last activity.
    silent_since: u32,
    begun: bool,
}

impl ProbeWatch {
    /// True on the first call.
    pub(crate) fn is_first(&mut self) -> bool {
        !std::mem::replace(&mut self.begun, true)
    }

    /// Queries the kernel about both sides; true if one of them has sent a probe since the last check in the same
    /// period of silence.
    ///
    /// `own` is the gateway's keepalive interval. The answer to each own probe is one segment, which also updates the
    /// time of the last acknowledgement; a peer's probe does not.
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

/// The number of segments between two checks that answered the gateway's own probes.
fn answers_to_own(before: (TcpCounters, Instant), now: (TcpCounters, Instant), own: Option<Duration>) -> u32 {
    let Some(own) = own else { return 0 };
    let acked = |(seen, at): (TcpCounters, Instant)| at.checked_sub(Duration::from_millis(u64::from(seen.since_ack)));
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
    fn answers_to_own_probes_are_distinguished_from_probes() {
        let start = Instant::now() + Duration::from_secs(1000);
        let at = |seconds: u64, segments, since_ack| {
            (TcpCounters { segments, segments_out: 0, since_ack }, start + Duration::from_secs(seconds))
        };
        let own = Some(Duration::from_secs(120));
        // The latest acknowledgement moved from second 0 to second 120.
        assert_eq!(answers_to_own(at(44, 5, 44_000), at(131, 6, 11_000), own), 1);
        // It did not move: the segment was no answer.
        assert_eq!(answers_to_own(at(44, 5, 44_000), at(88, 6, 88_000), own), 0);
        assert_eq!(answers_to_own(at(44, 5, 44_000), at(131, 6, 11_000), None), 0);
    }
}
