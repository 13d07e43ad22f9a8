//! What the tests of the simulator share.

use simulator::{Crash, Scenario, World};

/// A bridged service that says itself that it is ready.
pub const NOTIFY: &str = r#"
ready = "notify"
restart = { policy = "always", delay = "100ms", max_delay = "1s" }
[container]
image = "./images/web.tar"
network = "bridge"
seccomp = "unconfined"
"#;

/// Asserts that a schedule breaks no rule.
pub fn holds(scenario: &Scenario) {
    let outcome = World::run(scenario, false);
    if !outcome.violations.is_empty() {
        let trace = World::run(scenario, true).trace;
        let (seed, crash) = (scenario.seed, scenario.crash);
        panic!("seed {seed}, {crash:?}: {:#?}\n{}", outcome.violations, trace.join("\n"));
    }
}

/// Kills the supervisor before and after every call that it makes in a scenario, of which there are more
/// than `least`.
pub fn crash_everywhere(scenario: &Scenario, least: u64) {
    let calls = World::run(scenario, false).calls;
    assert!(calls > least, "{calls}");
    for call in 1..=calls {
        for after in [false, true] {
            holds(&Scenario { crash: Some(Crash { call, after }), ..scenario.clone() });
        }
    }
}
