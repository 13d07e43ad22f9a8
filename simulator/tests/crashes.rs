//! Small scenarios in which the supervisor is killed before and after every call that it makes.

mod common;

use common::NOTIFY;
use ipc::ShutdownKind;
use ipc::control::Request;
use simulator::Scenario;

/// A service that is ready when its health check passes, and stops slowly.
const HEALTHY: &str = r#"
ready = "healthy"
stop_timeout = "1s"
[container]
image = "./images/web.tar"
network = "none"
seccomp = "unconfined"
userns = "host"
[healthcheck]
command = ["/check"]
interval = "1s"
timeout = "500ms"
retries = 2
"#;

/// A one-shot.
const MIGRATE: &str = r#"
type = "oneshot"
[container]
image = "./images/migrate.tar"
network = "bridge"
seccomp = "unconfined"
"#;

/// A service that requires a one-shot to have run and comes after another service.
const DEPENDENT: &str = r#"
requires = ["migrate"]
after = ["healthy"]
start_timeout = "5s"
[container]
image = "./images/web.tar"
network = "host"
seccomp = "unconfined"
"#;

/// Kills the supervisor at each call of each of some schedules of a scenario.
fn crash_everywhere(files: &[(&str, &str)], requests: &[(u64, Request)]) {
    for seed in 1..=3 {
        let mut scenario = Scenario::new(seed, files);
        scenario.requests = requests.to_vec();
        scenario.calm_us = 2_500_000;
        scenario.settle_us = 15_000_000;
        common::crash_everywhere(&scenario, 50);
    }
}

fn named(name: &str) -> String {
    name.to_owned()
}

#[test]
fn during_the_start_of_a_service() {
    crash_everywhere(&[("notify", NOTIFY)], &[]);
    crash_everywhere(&[("healthy", HEALTHY)], &[]);
}

#[test]
fn during_the_start_of_units_that_depend_on_each_other() {
    let files = [("healthy", HEALTHY), ("migrate", MIGRATE), ("top", DEPENDENT)];
    crash_everywhere(&files, &[]);
}

#[test]
fn during_a_restart_and_a_stop() {
    let requests = [
        (500_000, Request::Restart { name: named("notify") }),
        (1_000_000, Request::Stop { name: named("notify") }),
        (1_500_000, Request::Start { name: named("notify") }),
        (1_500_500, Request::Stop { name: named("notify") }),
    ];
    crash_everywhere(&[("notify", NOTIFY)], &requests);
}

#[test]
fn during_a_shutdown() {
    let files = [("healthy", HEALTHY), ("migrate", MIGRATE), ("top", DEPENDENT)];
    let kind = ShutdownKind::Poweroff;
    crash_everywhere(&files, &[(1_000_000, Request::Shutdown { kind })]);
}
