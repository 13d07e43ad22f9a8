//! Small servers and clients, and the readiness message of sd_notify(3).

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::ends::stay;
use crate::{Arguments, Named, ProbeError};

/// Sends `READY=1` to the socket `$NOTIFY_SOCKET` and waits. A name that begins with `@` is in the abstract
/// namespace (sd_notify(3)).
pub fn notify(arguments: &mut Arguments) -> Result<(), ProbeError> {
    let delay = arguments.number_or("MS", 0)?;
    std::thread::sleep(Duration::from_millis(delay));
    let path = std::env::var("NOTIFY_SOCKET").map_err(|_| ProbeError::Missing("$NOTIFY_SOCKET"))?;
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    }
    .named(&path)?;
    let socket = UnixDatagram::unbound().named("socket")?;
    socket.send_to_addr(b"READY=1", &address).named(&path)?;
    println!("notify-ready sent");
    stay()
}

/// Echoes TCP connections, with a thread per connection.
pub fn tcp_echo(arguments: &mut Arguments) -> Result<(), ProbeError> {
    let listener = listen(arguments.number("PORT")?)?;
    for stream in listener.incoming() {
        let stream = stream.named("accept")?;
        std::thread::spawn(move || {
            // Errors of a connection are ignored.
            let _ = io::copy(&mut &stream, &mut &stream);
        });
    }
    Ok(())
}

/// Echoes each datagram to its sender.
pub fn udp_echo(arguments: &mut Arguments) -> Result<(), ProbeError> {
    let port: u16 = arguments.number("PORT")?;
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| UdpSocket::bind(("0.0.0.0", port)))
        .named("bind")?;
    println!("listening udp {port}");
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        let (length, sender) = socket.recv_from(&mut buffer).named("recvfrom")?;
        let _ = socket.send_to(buffer.get(..length).unwrap_or_default(), sender);
    }
}

/// A server for health checks: `/healthz` returns 200, after a request for `/sick` 503, and after `/well` 200
/// again. `/status/N` returns that status; `/exit/N` exits; other paths return 200 with the request line and
/// the client's address.
pub fn http(arguments: &mut Arguments) -> Result<(), ProbeError> {
    static SICK: AtomicBool = AtomicBool::new(false);
    let listener = listen(arguments.number("PORT")?)?;
    for stream in listener.incoming() {
        let stream = stream.named("accept")?;
        std::thread::spawn(move || {
            let _ = answer(&stream, &SICK);
        });
    }
    Ok(())
}

/// The largest request head; the rest is ignored.
const HEAD: u64 = 16 << 10;

fn answer(stream: &TcpStream, sick: &AtomicBool) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream.take(HEAD));
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let path = request.split(' ').nth(1).unwrap_or("/");
    let (status, body) = match path {
        "/healthz" if sick.load(Ordering::Relaxed) => (503, "sick\n".to_owned()),
        "/healthz" => (200, "well\n".to_owned()),
        "/sick" | "/well" => {
            sick.store(path == "/sick", Ordering::Relaxed);
            (200, format!("now {}\n", path.trim_start_matches('/')))
        }
        _ => match path.strip_prefix("/status/").map(str::parse::<u16>) {
            Some(Ok(status)) => (status, format!("status {status}\n")),
            _ => (200, format!("{} from {}\n", request.trim_end(), stream.peer_addr()?.ip())),
        },
    };
    println!("http {status} {path}");
    let length = body.len();
    write!(
        &*stream,
        "HTTP/1.1 {status} .\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )?;
    if let Some(Ok(code)) = path.strip_prefix("/exit/").map(str::parse::<u8>) {
        stream.shutdown(std::net::Shutdown::Both)?;
        std::process::exit(i32::from(code));
    }
    Ok(())
}

/// Connects by name, sends `hello`, and prints the first line of the answer.
pub fn connect(arguments: &mut Arguments) -> Result<(), ProbeError> {
    let host = arguments.text("HOST")?;
    let port: u16 = arguments.number("PORT")?;
    let stream = TcpStream::connect((host.as_str(), port)).named(&format!("{host}:{port}"))?;
    println!("connect {}", stream.peer_addr().named("peer")?);
    stream.set_read_timeout(Some(Duration::from_secs(5))).named("time-out")?;
    (&stream).write_all(b"hello\r\n\r\n").named("send")?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).named("receive")?;
    println!("answer {}", line.trim_end());
    Ok(())
}

/// Listens for both families where the kernel has IPv6, else for IPv4 only.
fn listen(port: u16) -> Result<TcpListener, ProbeError> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| TcpListener::bind(("0.0.0.0", port)))
        .named(&format!("listen on port {port}"))?;
    println!("listening tcp {port}");
    Ok(listener)
}
