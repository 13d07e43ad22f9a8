//! Messages from the `api` process to the supervisor, including descriptors, and their authorization.
//! `api` is untrusted: a client may have taken it over.
#![no_main]

use api_types::{Client, ErrorCode, Role};
use fuzz::{reads_back, steer};
use ipc::api::{ApiRequest, FromApi};
use ipc::channel::MAX_FDS;
use ipc::{Channel, ChannelError};
use libfuzzer_sys::fuzz_target;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::LazyLock;

static LINK: LazyLock<(Channel, Channel, File)> = LazyLock::new(|| {
    let (a, b) = Channel::pair().expect("socketpair");
    (a, b, File::open("/dev/null").expect("/dev/null"))
});

fuzz_target!(|data: &[u8]| {
    let (first, bytes) = steer(data);
    let (ours, theirs, null) = &*LINK;
    // Sometimes with more descriptors than any valid message has.
    let count = usize::from(first) % 70;
    send(theirs, bytes, &vec![null.as_raw_fd(); count]);
    match ours.recv::<FromApi>() {
        Ok(Some(received)) => {
            assert_eq!(received.fds.len(), count);
            assert!(count <= MAX_FDS);
            assert_eq!(reads_back::<FromApi>(bytes), Some(received.message.clone()));
            judge(&received.message);
        }
        Ok(None) => panic!("a packet is lost"),
        Err(ChannelError::Truncated) => assert!(count > MAX_FDS),
        Err(ChannelError::Decode { size, .. }) => assert_eq!(size, bytes.len()),
        Err(error) => panic!("{error}"),
    }
});

fn judge(message: &FromApi) {
    let client = |name: &str, key: &str, role| Client { name: name.into(), key: key.into(), role };
    let clients = [
        client("r", "SHA256:r", Role::Reader),
        client("o", "SHA256:o", Role::Operator),
        client("a", "SHA256:a", Role::Admin),
    ];
    let FromApi::Ask { key, request, .. } = message else { return };
    let host_only = matches!(request, ApiRequest::Plain { request } if request.host_only());
    let known = clients.iter().find(|client| client.key == *key);
    match supervisor::requests::api::permit(&clients, key, request) {
        Ok(client) => assert!(Some(client) == known && client.role >= request.role()),
        Err(why) if why.code == ErrorCode::UnknownKey => assert!(known.is_none()),
        Err(why) => {
            assert_eq!(why.code, ErrorCode::Forbidden);
            assert!(known.is_some_and(|client| client.role < request.role() || host_only));
        }
    }
    // A client with all roles may send every request, and an unknown key none.
    assert_eq!(
        supervisor::requests::api::permit(&clients, "SHA256:a", request).is_ok(),
        !host_only
    );
    assert!(supervisor::requests::api::permit(&[], key, request).is_err());
}

/// Sends a message as a process with its own code would.
fn send(link: &Channel, bytes: &[u8], fds: &[RawFd]) {
    let mut control = vec![0u64; 40];
    // SAFETY: the message header points to buffers that outlive the call, and CMSG_* stay inside
    // `control`, which has room for seventy descriptors.
    let sent = unsafe {
        let mut iov =
            libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &raw mut iov;
        header.msg_iovlen = 1;
        if !fds.is_empty() {
            let size = u32::try_from(size_of_val(fds)).expect("few");
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = libc::CMSG_SPACE(size) as usize;
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(size) as usize;
            let to = libc::CMSG_DATA(first).cast::<RawFd>();
            std::ptr::copy_nonoverlapping(fds.as_ptr(), to, fds.len());
        }
        libc::sendmsg(link.as_fd().as_raw_fd(), &raw const header, 0)
    };
    assert_eq!(usize::try_from(sent), Ok(bytes.len()));
}
