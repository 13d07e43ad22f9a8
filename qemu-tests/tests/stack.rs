//! `examples/stack`, as `make stack` boots it: nginx, a small program, redis and PostgreSQL start in order,
//! respond, and keep their data over a reboot.

// Helpers of tests may panic; clippy's exemption covers only `#[test]` functions.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use qemu_tests::{Folder, Guest, Options, disk, root};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The page, once all four services respond.
fn page(guest: &mut Guest) -> String {
    guest.wait_for("the front page", |guest| guest.get(8081, "/").ok())
}

/// The number in `<h1>Visit number N</h1>`.
fn visits(page: &str) -> u64 {
    let number = page.split("Visit number ").nth(1).and_then(|rest| rest.split('<').next());
    number.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no visits: {page}"))
}

/// Submits the form; true if the response redirects to the page.
fn sign(guest: &Guest, name: &str, words: &str) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", guest.port(8081)))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let form = format!("name={name}&words={words}");
        write!(
            stream,
            "POST /sign HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        )?;
        let mut text = Vec::new();
        stream.read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 303"))
}

/// The position in the console output where a unit reached this state.
fn place(guest: &Guest, console: &str, unit: &str, text: &str) -> usize {
    match console.find(&format!("{unit:<16} {text}")) {
        Some(place) => place,
        None => guest.fail(&format!("the console does not say {unit} {text:?}")),
    }
}

#[test]
fn the_stack_example_runs_and_keeps_its_data() {
    let scratch = Folder::empty();
    let data = scratch.path().join("stack.img");
    let options = Options {
        memory: "1G".to_owned(),
        data: Some(data.clone()),
        publish: vec![8081],
        ..Options::default()
    };
    let stack = root().join("examples/stack");
    let mut guest = Guest::up(&stack, &options);
    for unit in ["db", "redis", "app", "web"] {
        let healthy = format!("{unit} to be healthy");
        guest.wait_for(&healthy, |guest| {
            let report: api_types::Unit =
                guest.try_ask(&ipc::control::Request::Unit { name: unit.to_owned() }).ok()?;
            report.ready.then_some(())
        });
    }
    let first = page(&mut guest);
    // In order: the database, its preparation, and the units that need it.
    let console = guest.console();
    let at = |unit, text| place(&guest, &console, unit, text);
    let order = [
        at("db", "ready after"),
        at("prepare", "done"),
        at("app", "ready after"),
        at("web", "ready after"),
    ];
    assert!(order.is_sorted(), "{console}");
    assert!(at("redis", "ready after") < at("app", "ready after"), "{console}");

    // All parts respond.
    assert!(first.contains("the tables are laid"), "{first}");
    let second = page(&mut guest);
    assert!(visits(&second) > visits(&first));
    assert!(sign(&guest, "a+visitor", "was%20here"));
    assert!(page(&mut guest).contains("<b>a visitor</b><td>was here"));

    // The worker crashes on purpose and is restarted each time; no other unit is.
    guest.wait_for("the worker to crash twice", |guest| {
        (guest.field("worker", "restarts").parse::<u32>().ok()? >= 2).then_some(())
    });
    assert!(guest.logs("worker", 100).iter().any(|line| line.text.contains("on purpose")));
    for unit in ["db", "redis", "app", "web"] {
        assert_eq!(guest.unit(unit).weakenings, [""; 0], "{unit} has relaxed settings");
        if guest.field(unit, "restarts") != "0" {
            guest.fail(&format!("{unit} was restarted: {:#?}", guest.explain(unit)));
        }
    }

    // Shutdown in reverse order; each unit stops by itself.
    assert!(guest.power_off().success());
    let console = guest.console();
    let at = |unit| place(&guest, &console, unit, "stopped");
    assert!(at("web") < at("app") && at("app") < at("db"), "{console}");
    assert!(at("app") < at("redis"), "{console}");
    assert!(!console.contains("did not stop within its stop_timeout"), "{console}");
    disk::assert_clean(&data);
    drop(guest);

    // The next boot: the guest book is on the disk, the number of visits was only in memory.
    let mut guest = Guest::up(&stack, &options);
    let third = page(&mut guest);
    assert!(third.contains("<b>a visitor</b><td>was here"), "{third}");
    assert!(visits(&third) < visits(&second), "{third}");
    assert!(guest.power_off().success());
}
