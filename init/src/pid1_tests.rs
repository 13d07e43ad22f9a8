use super::*;
use nix::sys::socket::{Shutdown, shutdown};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

/// A PID 1 that is no PID 1: one that takes no signals and starts nothing.
fn pid1(services: &[Service]) -> Pid1 {
    Pid1 {
        signals: SignalFd::with_flags(&SigSet::empty(), SfdFlags::SFD_NONBLOCK).unwrap(),
        console: Console::on(std::fs::File::options().write(true).open("/dev/null").unwrap()),
        exits: Exits::default(),
        store: FdStore::default(),
        slots: services.iter().map(|service| Slot::new(*service)).collect(),
        net: Channel::pair().unwrap(),
        data_disk: None,
        down: None,
        report: BootReport::default(),
        ready: Vec::new(),
    }
}

/// Gives a process its link, as [`Pid1::start`] does; the process's end.
fn link(pid1: &mut Pid1, at: usize) -> Channel {
    let (ours, theirs) = Channel::pair().unwrap();
    pid1.slots[at].link = Some(ours);
    theirs
}

fn readable(link: &Channel) -> bool {
    let mut fds = [PollFd::new(link.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
}

/// All the links that a supervisor is handed, the newest last.
fn handed(supervisor: &Channel) -> Vec<Channel> {
    let mut links = Vec::new();
    while let Some(mut received) = supervisor.recv::<FromInit>().unwrap() {
        assert_eq!(received.message, FromInit::Stored { key: API_LINK.to_owned() });
        links.push(Channel::from(received.fds.pop().unwrap()));
    }
    links
}

#[test]
fn a_process_that_closes_its_link_and_lives_on_is_watched_no_longer_and_killed() {
    // Not by closing it: other tests fork, and for a moment have copies.
    for how in [Shutdown::Write, Shutdown::Both] {
        let mut pid1 = pid1(&[Service::Api]);
        let theirs = link(&mut pid1, 0);
        let mut child = Command::new("sleep")
            .arg("60")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        pid1.slots[0].pid = Some(i32::try_from(child.id()).unwrap());
        // What it has said before counts.
        theirs.send(&ToInit::Ready, &[]).unwrap();
        shutdown(theirs.as_fd().as_raw_fd(), how).unwrap();
        pid1.read_messages(0, MESSAGES_PER_TURN);
        assert_eq!(pid1.ready, [Service::Api]);
        assert!(pid1.slots[0].link.is_none());
        // A process that ends has a moment for it.
        pid1.kill_linkless();
        assert_eq!(child.try_wait().unwrap(), None);
        assert_ne!(pid1.timeout(), PollTimeout::NONE);
        pid1.slots[0].kill_at = Some(0);
        pid1.kill_linkless();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        // Until it is reaped, nothing is due: PID 1 sleeps.
        assert_eq!(pid1.timeout(), PollTimeout::NONE);
    }
}

#[test]
fn the_last_words_of_a_process_that_left_something_unread_are_heard() {
    let mut pid1 = pid1(&[Service::Devices]);
    let theirs = link(&mut pid1, 0);
    pid1.send(Service::Devices, FromInit::StoredEnd, Rc::default());
    theirs.send(&ToInit::Ready, &[]).unwrap();
    drop(theirs);
    pid1.slots[0].pid = Some(i32::MAX);
    pid1.service_ended(0, ExitStatus::Code(0));
    assert_eq!(pid1.ready, [Service::Devices]);
    let slot = &pid1.slots[0];
    assert!(slot.link.is_none() && slot.kill_at.is_none() && slot.restart_at.is_some());
}

#[test]
fn a_link_that_an_api_has_broken_is_not_the_link_of_the_next_one() {
    let mut pid1 = pid1(&[Service::Supervisor, Service::Api]);
    let supervisor = link(&mut pid1, 0);
    let (ours, broken) = Channel::pair().unwrap();
    pid1.link_to_api(ours);
    shutdown(broken.as_fd().as_raw_fd(), Shutdown::Both).unwrap();
    pid1.slots[1].pid = Some(i32::MAX);
    pid1.service_ended(1, ExitStatus::Signal(9));
    assert_eq!(pid1.store.of(Service::Supervisor).count(), 0);

    let (ours, next) = Channel::pair().unwrap();
    pid1.link_to_api(ours);
    let links = handed(&supervisor);
    assert_eq!(links.len(), 2);
    assert!(readable(&links[0]) && !readable(&links[1]));
    next.send(&ToInit::Ready, &[]).unwrap();
    assert!(readable(&links[1]));

    // The next supervisor finds it, though this one dies; and the api does not notice.
    drop((links, supervisor));
    let kept: Vec<_> = pid1.store.of(Service::Supervisor).collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].0, API_LINK);
    assert!(!readable(&next));
}

#[test]
fn an_api_that_dies_again_and_again_fills_nothing_while_the_supervisor_hangs() {
    let mut pid1 = pid1(&[Service::Supervisor]);
    let supervisor = link(&mut pid1, 0);
    // Whatever else waits stays in its place.
    while pid1.slots[0].outbox.is_empty() {
        pid1.send(Service::Supervisor, FromInit::StoredEnd, Rc::default());
    }
    let mut last = None;
    for _ in 0..100 {
        let (ours, theirs) = Channel::pair().unwrap();
        pid1.link_to_api(ours);
        last = Some(theirs);
    }
    assert_eq!(pid1.slots[0].outbox.len(), 2);
    while let Some(received) = supervisor.recv::<FromInit>().unwrap() {
        assert_eq!(received.message, FromInit::StoredEnd);
    }
    pid1.flush(0);
    assert_eq!(supervisor.recv::<FromInit>().unwrap().unwrap().message, FromInit::StoredEnd);
    let links = handed(&supervisor);
    assert_eq!(links.len(), 1);
    last.unwrap().send(&ToInit::Ready, &[]).unwrap();
    assert!(readable(&links[0]));
}
