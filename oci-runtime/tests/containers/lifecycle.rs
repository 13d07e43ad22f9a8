//! create, start, state, kill, delete: each state, each transition.

use crate::bundle::Bundle;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

#[test]
fn a_container_passes_through_its_states() {
    let mut bundle = Bundle::new("echo began; exec sleep 1000");
    bundle.set("/annotations", json!({ "org.example": "x; rm -rf /" }));
    let pid_file = bundle.dir.join("pid");
    let mut create = bundle.command(&["create", "--bundle"]);
    create.arg(&bundle.dir).arg("--pid-file").arg(&pid_file).arg(&bundle.id);
    let out = fs::File::create(bundle.dir.join("out")).unwrap();
    assert!(create.stdout(out).status().unwrap().success());
    let state: Value = serde_json::from_str(&bundle.call(&["state", &bundle.id]).ok()).unwrap();
    assert_eq!(state["ociVersion"], "1.0.2-dev");
    assert_eq!((&state["id"], &state["status"]), (&json!(bundle.id), &json!("created")));
    assert_eq!(state["bundle"], json!(bundle.dir));
    assert_eq!(state["annotations"]["org.example"], "x; rm -rf /");
    let pid = state["pid"].as_i64().unwrap();
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), pid.to_string());
    assert_eq!(bundle.output(), "", "the program has started too early");

    assert!(bundle.create().err.contains("already"));
    assert!(bundle.call(&["delete", &bundle.id]).refused().contains("is created"));
    let args = ["exec", &bundle.id, "true"];
    assert!(bundle.call(&args).refused().contains("it must be running"));

    bundle.start().ok();
    bundle.output_with("began");
    assert_eq!(bundle.status(), "running");
    assert!(bundle.start().refused().contains("is running"));
    assert!(bundle.call(&["delete", &bundle.id]).refused().contains("is running"));
    let list = bundle.call(&["list"]).ok();
    assert!(list.contains(&bundle.id) && list.contains("running"), "{list}");

    bundle.call(&["kill", &bundle.id, "KILL"]).ok();
    // Its parent, this test, has not reaped it.
    bundle.stopped();
    assert_eq!(bundle.pid(), 0);
    assert!(bundle.call(&["kill", &bundle.id, "KILL"]).refused().contains("is stopped"));
    assert!(bundle.start().refused().contains("is stopped"));
    bundle.call(&["delete", &bundle.id]).ok();
    bundle.nothing_is_left();
    assert!(bundle.call(&["state", &bundle.id]).refused().contains("not found"));
    assert!(bundle.call(&["delete", &bundle.id]).refused().contains("not found"));
    bundle.call(&["delete", "--force", &bundle.id]).ok();
}

#[test]
fn cve_2024_25621_state_is_for_its_owner_alone() {
    let bundle = Bundle::new("exec sleep 1000");
    bundle.create().ok();
    for (path, mode) in [
        (bundle.root(), 0o700),
        (bundle.root().join(&bundle.id), 0o700),
        (bundle.root().join(&bundle.id).join("state.json"), 0o600),
    ] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{path:?}");
    }
}

#[test]
fn changes_to_the_bundle_after_create_have_no_effect() {
    let mut bundle = Bundle::new("echo the first");
    bundle.create().ok();
    bundle.set("/process/args", json!(["sh", "-c", "echo the second"]));
    bundle.start().ok();
    assert!(bundle.output_with("\n").ends_with("the first\n"));
}

#[test]
fn start_reports_why_a_program_cannot_be_executed() {
    let mut bundle = Bundle::new("");
    bundle.set("/process/args", json!(["/no/such"]));
    bundle.create().ok();
    assert!(bundle.start().refused().contains("exec: /no/such: no such file"));
    bundle.stopped();
    bundle.call(&["delete", &bundle.id]).ok();
    bundle.nothing_is_left();
}

#[test]
fn a_created_container_can_be_killed_and_deleted() {
    for force in [false, true] {
        let bundle = Bundle::new("true");
        bundle.create().ok();
        if force {
            bundle.call(&["delete", "--force", &bundle.id]).ok();
        } else {
            bundle.call(&["kill", &bundle.id, "SIGKILL"]).ok();
            bundle.stopped();
            bundle.call(&["delete", &bundle.id]).ok();
        }
        bundle.nothing_is_left();
    }
}

#[test]
fn a_start_killed_after_the_program_began_reads_as_running() {
    let bundle = Bundle::new("echo began; exec sleep 1000");
    bundle.create().ok();
    // What `start` does before it is killed: it has not saved anything.
    fs::write(bundle.root().join(&bundle.id).join("go"), "!").unwrap();
    bundle.output_with("began");
    assert_eq!(bundle.status(), "running");
    assert!(bundle.start().refused().contains("is running"));
}

#[test]
fn kill_all_signals_all_processes() {
    let bundle = Bundle::new(
        "trap 'echo one' USR1; (trap 'echo two; exit' USR1; echo up; \
        while :; do sleep 0.05; done) & while :; do sleep 0.05; done",
    );
    bundle.create().ok();
    bundle.start().ok();
    bundle.output_with("up");
    bundle.call(&["kill", "--all", &bundle.id, "USR1"]).ok();
    bundle.output_with("one");
    bundle.output_with("two");
    bundle.call(&["kill", "--all", &bundle.id, "KILL"]).ok();
    bundle.stopped();
    bundle.call(&["kill", "--all", &bundle.id, "KILL"]).ok();
}

#[test]
fn hooks_receive_the_state() {
    let mut bundle = Bundle::new("exec sleep 1000");
    let log = bundle.dir.join("hooks");
    let hook = |name: &str| {
        let script = format!("read -r state; echo {name} $WORD $state >> {0}", log.display());
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script],
            "env": ["WORD=word", "PATH=/bin:/usr/bin"], "timeout": 30 }])
    };
    bundle.set(
        "/hooks",
        json!({ "prestart": hook("prestart"), "createRuntime": hook("createRuntime"),
        "poststart": hook("poststart"), "poststop": hook("poststop") }),
    );
    bundle.create().ok();
    bundle.start().ok();
    let pid = bundle.pid();
    bundle.call(&["delete", "--force", &bundle.id]).ok();
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let expected = [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ];
    assert_eq!(lines.len(), expected.len(), "{text}");
    for (line, (name, status)) in lines.iter().zip(expected) {
        let text = line.strip_prefix(&format!("{name} word ")).unwrap_or_else(|| panic!("{line}"));
        let state: Value = serde_json::from_str(text).unwrap();
        assert_eq!((&state["status"], &state["id"]), (&json!(status), &json!(bundle.id)));
        assert_eq!(state["pid"], json!(if status == "stopped" { 0 } else { pid }), "{name}");
    }
}

#[test]
fn a_hook_that_fails_or_hangs_aborts_the_creation() {
    for (args, reason) in [
        (json!(["sh", "-c", "exit 3"]), "exit status: 3"),
        (json!(["sleep", "1000"]), "timed out after 1 s"),
    ] {
        let mut bundle = Bundle::new("echo began");
        let path = if args[0] == "sh" { "/bin/sh" } else { "/bin/sleep" };
        bundle.set("/hooks", json!({ "createRuntime":
            [{ "path": path, "args": args, "timeout": 1 }],
            "poststop": [{ "path": "/bin/touch", "args": ["touch", bundle.dir.join("stopped")] }] }));
        let said = bundle.create();
        assert!(said.err.contains(reason), "{said:?}");
        assert_eq!(said.code, Some(1));
        assert!(bundle.dir.join("stopped").exists());
        bundle.nothing_is_left();
    }
}

#[test]
fn delete_force_cleans_up_after_a_killed_create() {
    let mut bundle = Bundle::new("echo began");
    bundle.set(
        "/hooks",
        json!({ "createRuntime": [{ "path": "/bin/sleep", "args": ["sleep", "5"] }] }),
    );
    let mut create = bundle.command(&["create", "--bundle"]);
    let mut child = create.arg(&bundle.dir).arg(&bundle.id).spawn().unwrap();
    let state = bundle.root().join(&bundle.id).join("state.json");
    bundle.until("in its hook", || {
        let text = fs::read_to_string(&state).ok()?;
        let value: Value = serde_json::from_str(&text).ok()?;
        value["pid"].as_i64()
    });
    assert_eq!(bundle.status(), "creating");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(bundle.status(), "creating");
    assert!(bundle.call(&["delete", &bundle.id]).refused().contains("creating"));
    bundle.call(&["delete", "--force", &bundle.id]).ok();
    bundle.nothing_is_left();
}

#[test]
fn run_creates_starts_waits_and_deletes() {
    let mut bundle = Bundle::new("cat; hostname; id -u; exit 7");
    let said = bundle.run();
    assert_eq!((said.code, said.out.as_str()), (Some(7), "runc\n0\n"), "{said:?}");
    bundle.nothing_is_left();
    bundle.set("/process/args", json!(["sh", "-c", "kill -9 $$; sleep 5; exit 3"]));
    // The first process of a pid namespace cannot kill itself.
    assert_eq!(bundle.run().code, Some(3));
    bundle.set("/process/args", json!(["/no/such"]));
    let said = bundle.run();
    assert!(said.err.contains("no such file"), "{said:?}");
    assert_eq!(said.code, Some(1));
    bundle.nothing_is_left();
}

#[test]
fn run_forwards_signals() {
    let bundle =
        Bundle::new("trap 'echo term; exit 9' TERM; echo up; while :; do sleep 0.05; done");
    let mut command = bundle.command(&["run", "--bundle"]);
    let out = fs::File::create(bundle.dir.join("out")).unwrap();
    let mut child = command.arg(&bundle.dir).arg(&bundle.id).stdout(out).spawn().unwrap();
    bundle.output_with("up");
    // SAFETY: integers only.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    assert_eq!(child.wait().unwrap().code(), Some(9));
    assert!(bundle.output().contains("term"));
    bundle.nothing_is_left();
}

#[test]
fn the_cgroup_is_at_its_path_and_removed_with_its_parents() {
    let mut bundle = Bundle::new("cat /proc/self/cgroup; exec sleep 1000");
    let parent = format!("{}-parent", bundle.id);
    bundle.set("/linux/cgroupsPath", json!(format!("/{parent}/a/b")));
    bundle.create().ok();
    bundle.start().ok();
    assert!(bundle.output_with("0::").contains("0::/\n"), "{}", bundle.output());
    let top = bundle.cgroup().ancestors().nth(2).unwrap().join(&parent);
    let procs = fs::read_to_string(top.join("a/b/cgroup.procs")).unwrap();
    assert_eq!(procs.trim(), bundle.pid().to_string());
    let mut other = Bundle::new("true");
    other.set("/linux/cgroupsPath", json!(format!("{parent}/a/b")));
    assert!(other.create().err.contains("already contains processes"));
    other.nothing_is_left();
    assert_eq!(fs::read_to_string(top.join("a/b/cgroup.procs")).unwrap(), procs, "not killed");
    bundle.call(&["delete", "--force", &bundle.id]).ok();
    assert!(!top.exists());
}

#[test]
fn an_unsupported_limit_names_its_key_and_leaves_nothing_behind() {
    let mut bundle = Bundle::new("true");
    bundle.set("/linux/resources", json!({ "unified": { "nonsense.max": "1" } }));
    let said = bundle.create();
    assert!(said.err.contains("linux.resources.unified.nonsense.max"), "{said:?}");
    bundle.nothing_is_left();
}

#[test]
fn limits_apply_or_the_error_names_the_key() {
    let mut bundle = Bundle::new("exec sleep 1000");
    let root = bundle.cgroup().ancestors().nth(2).unwrap().join("cgroup.controllers");
    let controllers = fs::read_to_string(root).unwrap();
    bundle.set(
        "/linux/resources",
        json!({ "memory": { "limit": 67108864, "swap": 100663296,
        "reservation": 33554432 }, "cpu": { "quota": 50000, "period": 100000, "shares": 512 },
        "pids": { "limit": 20 } }),
    );
    let created = bundle.create();
    if !controllers.contains("memory") {
        // The controllers are in use by cgroup v1: an unavailable limit is an error, not ignored.
        assert!(created.err.contains("linux.resources.memory.limit"), "{created:?}");
        bundle.nothing_is_left();
        return;
    }
    created.ok();
    for (file, value) in [
        ("memory.max", "67108864"),
        ("memory.low", "33554432"),
        ("cpu.max", "50000 100000"),
        ("cpu.weight", "20"),
        ("pids.max", "20"),
    ] {
        let text = fs::read_to_string(bundle.cgroup().join(file)).unwrap();
        assert_eq!(text.trim(), value, "{file}");
    }
}

#[test]
fn errors_are_written_to_the_log() {
    let mut bundle = Bundle::new("true");
    bundle.set("/process/args", json!([]));
    let log = bundle.dir.join("log.json");
    let mut command = bundle.command(&[]);
    command.args(["--log-format", "json", "--log"]).arg(&log).args(["create", "--bundle"]);
    let said = bundle.say({
        command.arg(&bundle.dir).arg(&bundle.id);
        command
    });
    assert!(said.refused().contains("process.args"));
    let text = fs::read_to_string(&log).unwrap();
    let line: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().unwrap().contains("process.args"));
    bundle.nothing_is_left();
}

#[test]
fn a_bundle_behind_a_link_has_a_writable_root() {
    let mut bundle = Bundle::new("echo x > /written; stat -c %u /written");
    bundle.set("/root/readonly", json!(false));
    let link = bundle.dir.join("link");
    symlink(".", &link).unwrap();
    let mut command = bundle.command(&["run", "--bundle"]);
    command.arg(&link).arg(&bundle.id);
    assert_eq!(bundle.say(command).ok(), "0\n");
    assert_eq!(fs::metadata(bundle.rootfs().join("written")).unwrap().uid(), 0);
}
