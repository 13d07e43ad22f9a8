use super::*;
use crate::kernel::LinuxKernel;
use ipc::Channel;
use kmsg::console::Console;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::socket::{Shutdown, shutdown};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

/// PID 1's state in an ordinary process, which takes no signals and starts nothing.
fn pid1(services: &[Service]) -> Pid1<LinuxKernel> {
    let console = Console::on(std::fs::File::options().write(true).open("/dev/null").unwrap());
    let kernel = LinuxKernel::new(&SigSet::empty(), console).unwrap();
    Pid1::new(kernel, services.iter().copied(), 0).unwrap()
}

/// Gives a process its link, as [`Pid1::start`] does; the process's end.
fn link(pid1: &mut Pid1<LinuxKernel>, at: usize) -> Channel {
    let (ours, theirs) = Channel::pair().unwrap();
    pid1.slots[at].link = Some(ours);
    theirs
}

fn readable(link: &Channel) -> bool {
    let mut fds = [PollFd::new(link.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
}

/// All the links that a supervisor receives, the newest last.
fn received_links(supervisor: &Channel) -> Vec<Channel> {
    let mut links = Vec::new();
    while let Some(mut received) = supervisor.recv::<FromInit>().unwrap() {
        assert_eq!(received.message, FromInit::Stored { key: API_LINK.to_owned() });
        links.push(Channel::from(received.fds.pop().unwrap()));
    }
    links
}

#[test]
fn a_process_that_closes_its_link_but_is_still_running_is_killed() {
    // Shut down instead of closed: other tests fork, and their children briefly hold copies.
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
        // A message that it sent before is handled.
        theirs.send(&ToInit::Ready, &[]).unwrap();
        shutdown(theirs.as_fd().as_raw_fd(), how).unwrap();
        pid1.read_messages(0, MESSAGES_PER_TURN);
        assert_eq!(pid1.ready, [Service::Api]);
        assert!(pid1.slots[0].link.is_none());
        // A process that is exiting has a grace period.
        pid1.kill_without_link();
        assert_eq!(child.try_wait().unwrap(), None);
        assert_ne!(pid1.timeout_ms(), None);
        pid1.slots[0].kill_at = Some(0);
        pid1.kill_without_link();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        // Until it is reaped, nothing is due: PID 1 sleeps.
        assert_eq!(pid1.timeout_ms(), None);
    }
}

#[test]
fn messages_of_a_process_that_ended_with_unread_input_are_handled() {
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
fn each_api_gets_a_new_link() {
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
    let links = received_links(&supervisor);
    assert_eq!(links.len(), 2);
    assert!(readable(&links[0]) && !readable(&links[1]));
    next.send(&ToInit::Ready, &[]).unwrap();
    assert!(readable(&links[1]));

    // After the death of this supervisor the next one gets the link, and the api does not notice.
    drop((links, supervisor));
    let kept: Vec<_> = pid1.store.of(Service::Supervisor).collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].0, API_LINK);
    assert!(!readable(&next));
}

#[test]
fn an_api_that_keeps_dying_does_not_fill_the_queue_of_a_hanging_supervisor() {
    let mut pid1 = pid1(&[Service::Supervisor]);
    let supervisor = link(&mut pid1, 0);
    // Other waiting messages keep their place.
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
    let links = received_links(&supervisor);
    assert_eq!(links.len(), 1);
    last.unwrap().send(&ToInit::Ready, &[]).unwrap();
    assert!(readable(&links[0]));
}
