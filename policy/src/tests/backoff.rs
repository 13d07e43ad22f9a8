//! The sequence of delays and the limit of attempts.

use super::super::backoff::{Backoff, Pace};
use super::*;
use proptest::prelude::*;

fn policy(delay_ms: u64, max_ms: u64) -> Restart {
    let mut restart = unit("x").restart;
    restart.delay = Duration::from_millis(delay_ms);
    restart.max_delay = Duration::from_millis(max_ms);
    restart
}

proptest! {
    /// Whatever the history: after a stable run at once, else the first delay doubled for each
    /// unstable end since the last stable one, bounded, and within a tenth.
    #[test]
    fn delays_are_as_specified(
        seed: u64,
        delay in 0_u64..5_000,
        max in 0_u64..100_000,
        ends in prop::collection::vec(prop::bool::weighted(0.1), 1..200),
    ) {
        let restart = policy(delay, max);
        let mut backoff = Backoff::new(seed);
        let mut unstable = 0_i32;
        for (n, stable) in ends.into_iter().enumerate() {
            let now = Instant::from_millis(n as u64);
            let Pace::Retry(actual) = backoff.after_end(now, stable, &restart) else {
                return Err(TestCaseError::fail("a limit that was not set"));
            };
            if stable {
                unstable = 0;
                prop_assert_eq!(actual, Duration::ZERO);
                continue;
            }
            let first = (delay as f64).max(10.0);
            let plain = (first * 2_f64.powi(unstable)).min((max as f64).max(first));
            let actual = actual.as_secs_f64() * 1000.0;
            prop_assert!(actual >= (plain * 0.9).max(10.0) - 0.01, "{} < {}", actual, plain);
            prop_assert!(actual <= plain * 1.1 + 0.01, "{} > {}", actual, plain);
            unstable += 1;
        }
    }

    /// The same seed gives the same delays, over any interruption.
    #[test]
    fn jitter_is_deterministic_and_survives_saving(seed: u64, count in 1_usize..50) {
        let restart = policy(100, 60_000);
        let now = Instant::from_millis(0);
        let mut one = Backoff::new(seed);
        let mut other = Backoff::new(seed);
        for _ in 0..count {
            let text = serde_json::to_string(&other).unwrap();
            other = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(
                one.after_end(now, false, &restart),
                other.after_end(now, false, &restart)
            );
        }
    }

    /// With a window exactly the ends inside it count.
    #[test]
    fn limit_within_a_window(
        limit in 1_u32..6,
        window in 1_u64..1_000,
        gaps in prop::collection::vec(0_u64..500, 1..60),
    ) {
        let mut restart = policy(100, 60_000);
        restart.max_attempts = Some(limit);
        restart.window = Some(Duration::from_millis(window));
        let mut backoff = Backoff::new(0);
        let mut times: Vec<u64> = vec![];
        let mut now = 0;
        for gap in gaps {
            now += gap;
            times.push(now);
            let inside = times.iter().filter(|t| now - **t <= window).count();
            let pace = backoff.after_end(Instant::from_millis(now), false, &restart);
            if inside >= limit as usize {
                prop_assert_eq!(pace, Pace::Limit(inside as u32));
                return Ok(());
            }
            prop_assert!(matches!(pace, Pace::Retry(_)));
        }
    }
}

#[test]
fn limit_without_a_window_counts_since_the_last_stable_run() {
    let mut restart = policy(100, 60_000);
    restart.max_attempts = Some(3);
    let now = Instant::from_millis(0);
    let mut backoff = Backoff::new(0);
    for stable in [false, false, true, false, false] {
        assert!(matches!(backoff.after_end(now, stable, &restart), Pace::Retry(_)));
    }
    assert_eq!(backoff.after_end(now, false, &restart), Pace::Limit(3));
}

#[test]
fn first_crash_of_a_stable_unit_restarts_at_once_and_the_next_ones_do_not() {
    let mut bench = Bench::booted([unit("web")]);
    bench.up("web");
    bench.secs(10);
    bench.end("web", ExitStatus::Code(1));
    assert_eq!((bench.starts("web"), bench.state("web")), (2, State::Starting));
    bench.up("web");
    bench.pass(Duration::from_millis(9_999));
    bench.end("web", ExitStatus::Code(1));
    assert_eq!(bench.state("web"), State::Backoff);
    let delay = bench.status("web").next_retry_ms.unwrap() - bench.now.as_millis();
    assert!((90..=111).contains(&delay), "{delay}");
    bench.secs(1);
    bench.up("web");
    bench.secs(10);
    assert_eq!(bench.status("web").attempts, 0);
    assert_eq!(bench.status("web").restarts, 2);
}

#[test]
fn start_limit_is_failed_and_a_start_by_hand_begins_anew() {
    let mut web = unit("web");
    web.restart.max_attempts = Some(2);
    let mut bench = Bench::booted([web]);
    for _ in 0..2 {
        bench.up("web");
        bench.end("web", ExitStatus::Code(4));
        bench.secs(1);
    }
    let status = bench.status("web");
    assert_eq!(status.state, State::Failed);
    let reason = "start limit: 2 failed attempts, the last: exit code 4";
    assert_eq!(status.reason.as_deref(), Some(reason));
    bench.start("web");
    bench.up("web");
    assert_eq!(bench.state("web"), State::Running);
    bench.end("web", ExitStatus::Code(4));
    assert_eq!(bench.state("web"), State::Backoff);
    assert_eq!(bench.status("web").failures, 3);
}
