//! Bugs that the simulator has found, each with a small scenario that shows it.

mod common;

use common::{NOTIFY, crash_everywhere, holds};
use ipc::control::Request;
use simulator::{Scenario, World};

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

/// Asserts that these seeds break no rule in a scenario.
fn holds_for(seeds: u64, files: &[(&str, &str)], change: impl Fn(&mut Scenario)) {
    for seed in 1..=seeds {
        let mut scenario = Scenario::new(seed, files);
        change(&mut scenario);
        holds(&scenario);
    }
}

#[test]
fn a_supervisor_killed_while_a_bridged_unit_waits_for_its_network_fails_no_unit() {
    let mut scenario = Scenario::new(1, &[("migrate", MIGRATE)]);
    scenario.options.attach_us = Some(50_000);
    scenario.calm_us = 2_000_000;
    crash_everywhere(&scenario, 20);
}

#[test]
fn an_unreadable_cgroup_is_not_taken_for_an_empty_one() {
    holds_for(100, &[("web", CHECKED)], |scenario| {
        scenario.options.benign = false;
        scenario.options.fault_calls = vec!["populated"];
        scenario.options.fault_ppm = 300_000;
    });
}

#[test]
fn a_supervisor_that_cannot_read_what_is_left_starts_nothing_beside_it() {
    holds_for(200, &[("web", NOTIFY), ("migrate", MIGRATE)], |scenario| {
        scenario.options.kill_ppm = 3_000;
        scenario.options.fault_ppm = 30_000;
        scenario.options.fault_calls = vec![
            "state_files",
            "state_file",
            "groups",
            "open_group",
            "populated",
            "group_processes",
            "process_status",
            "pidfd_open",
            "is_executed",
            "mounted_layers",
        ];
    });
}

#[test]
fn a_supervisor_killed_at_any_call_is_replaced_although_little_can_be_read() {
    let mut scenario = Scenario::new(5, &[("web", CHECKED), ("migrate", MIGRATE)]);
    scenario.options.fault_calls =
        vec!["open_group", "group_processes", "process_status", "pidfd_open", "state_file"];
    scenario.options.fault_ppm = 200_000;
    scenario.calm_us = 3_000_000;
    scenario.settle_us = 15_000_000;
    crash_everywhere(&scenario, 20);
}

#[test]
fn a_container_s_output_is_read_whenever_the_supervisor_dies() {
    holds_for(300, &[("web", NOTIFY), ("api", CHECKED), ("migrate", MIGRATE)], |scenario| {
        scenario.options.benign = false;
        scenario.options.queue = 2;
        scenario.options.kill_ppm = 5_000;
    });
}

#[test]
fn an_oom_kill_of_an_earlier_run_is_not_one_of_the_next() {
    holds_for(300, &[("web", CHECKED)], |scenario| {
        scenario.options.benign = false;
        scenario.options.fault_calls = vec!["oom_kills", "set_note"];
        scenario.options.fault_ppm = 300_000;
        scenario.options.kill_ppm = 2_000;
    });
}

#[test]
fn a_message_that_the_kernel_does_not_take_is_sent_later() {
    holds_for(100, &[("web", NOTIFY), ("migrate", MIGRATE)], |scenario| {
        scenario.options.benign = false;
        scenario.options.fault_calls = vec!["sendmsg"];
        scenario.options.fault_ppm = 100_000;
    });
}

#[test]
fn pid_1_sleeps_when_a_process_has_gone_for_which_messages_waited() {
    holds_for(1000, &[("web", CHECKED)], |scenario| {
        scenario.options.benign = false;
        scenario.options.fault_calls = vec!["sendmsg"];
        scenario.options.fault_ppm = 400_000;
        scenario.options.kill_ppm = 10_000;
        scenario.calm_us = 4_000_000;
        scenario.settle_us = 10_000_000;
    });
}

#[test]
fn a_descriptor_that_cannot_be_watched_or_copied_is_not_forgotten() {
    holds_for(200, &[("web", NOTIFY), ("api", CHECKED), ("migrate", MIGRATE)], |scenario| {
        scenario.options.fault_calls = vec!["epoll_ctl", "dup", "poll", "is_executed"];
        scenario.options.kill_ppm = 2_000;
        scenario.options.fault_ppm = 50_000;
    });
}

#[test]
fn a_stop_during_the_start_keeps_the_unit_from_starting() {
    let files = ["a", "b", "c", "d", "e", "f", "g", "last"].map(|name| (name, CHECKED));
    for at in (0..8_000).step_by(20) {
        let mut scenario = Scenario::new(at + 1, &files);
        scenario.requests = vec![(at, Request::Stop { name: "last".to_owned() })];
        scenario.calm_us = 1_000_000;
        scenario.settle_us = 2_000_000;
        holds(&scenario);
    }
}

#[test]
fn a_process_that_is_killed_during_its_setup_has_executed_nothing() {
    holds_for(300, &[("web", CHECKED), ("api", CHECKED)], |scenario| {
        scenario.options.benign = false;
    });
}

#[test]
fn a_unit_that_has_said_that_it_is_ready_is_ready_for_the_next_supervisor() {
    let mut scenario = Scenario::new(1, &[("web", NOTIFY)]);
    scenario.calm_us = 2_000_000;
    crash_everywhere(&scenario, 20);
}

#[test]
fn an_exit_that_comes_after_the_empty_group_is_not_lost_with_the_supervisor() {
    holds_for(300, &[("web", CHECKED), ("migrate", MIGRATE)], |scenario| {
        scenario.options.benign = false;
        scenario.options.kill_ppm = 20_000;
    });
}

#[test]
fn an_answer_about_an_earlier_namespace_lets_no_container_go() {
    holds_for(200, &[("web", NOTIFY), ("other", NOTIFY)], |scenario| {
        scenario.options.benign = false;
        scenario.options.attach_us = None;
        scenario.options.attach_fails_percent = 50;
        scenario.options.kill_ppm = 3_000;
    });
}

#[test]
fn a_state_that_could_not_be_written_is_written_later() {
    holds_for(100, &[("web", NOTIFY), ("migrate", MIGRATE)], |scenario| {
        scenario.options.fault_calls = vec!["save_state"];
        scenario.options.fault_ppm = 200_000;
        // Nothing else wakes the supervisor up after a moment.
        scenario.calm_us = 100_000;
    });
}

#[test]
fn a_schedule_is_the_same_each_time() {
    for seed in [3, 17, 100, 367] {
        let scenario = Scenario::of_seed(seed);
        let first = World::run(&scenario, false);
        let second = World::run(&scenario, true);
        assert_eq!(first.fingerprint, second.fingerprint, "seed {seed}");
        assert_eq!((first.calls, first.runs), (second.calls, second.runs), "seed {seed}");
    }
}
