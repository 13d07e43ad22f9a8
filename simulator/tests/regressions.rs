//! Faults that the simulator has found, each as the smallest schedule that shows it, and small
//! scenarios in which the supervisor is killed at every call in turn.

use simulator::{Crash, Scenario, World};

/// A one-shot that reboots the host when it fails.
const MIGRATE: &str = r#"
type = "oneshot"
restart = { policy = "never" }
on_failure = "reboot"
[container]
image = "./images/migrate.tar"
network = "bridge"
seccomp = "unconfined"
"#;

/// A service with a health check that is a command.
const CHECKED: &str = r#"
restart = { policy = "always", delay = "100ms", max_delay = "1s" }
[container]
image = "./images/web.tar"
network = "host"
seccomp = "unconfined"
[healthcheck]
command = ["/check"]
interval = "1s"
timeout = "500ms"
retries = 2
"#;

/// Asserts that a schedule breaks no rule.
fn holds(scenario: &Scenario) {
    let outcome = World::run(scenario, false);
    if !outcome.violations.is_empty() {
        let trace = World::run(scenario, true).trace;
        let seed = scenario.seed;
        panic!(
            "seed {seed}, {:?}: {:#?}\n{}",
            scenario.crash,
            outcome.violations,
            trace.join("\n")
        );
    }
}

/// Kills the supervisor before and after every call that it makes in a scenario.
fn crash_everywhere(scenario: &Scenario) {
    let calls = World::run(scenario, false).calls;
    assert!(calls > 20, "{calls}");
    for call in 1..=calls {
        for after in [false, true] {
            holds(&Scenario { crash: Some(Crash { call, after }), ..scenario.clone() });
        }
    }
}

#[test]
fn a_supervisor_killed_while_a_bridged_unit_waits_for_its_network_fails_no_unit() {
    let mut scenario = Scenario::new(1, &[("migrate", MIGRATE)]);
    scenario.options.attach_us = Some(50_000);
    scenario.calm_us = 2_000_000;
    crash_everywhere(&scenario);
}

#[test]
fn an_unreadable_cgroup_is_not_taken_for_an_empty_one() {
    for seed in 1..=200 {
        let mut scenario = Scenario::new(seed, &[("web", CHECKED)]);
        scenario.options.benign = false;
        scenario.options.fault_calls = vec!["populated"];
        scenario.options.fault_ppm = 300_000;
        holds(&scenario);
    }
}
