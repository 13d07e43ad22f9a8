//! `stack-app`: the web application of `examples/stack`.
//!
//! - `stack-app serve` answers HTTP on port 8000: it counts visits in redis and keeps a guest book in
//!   PostgreSQL. `/healthz` reports the health of this program alone, not of redis or PostgreSQL,
//!   because restarting this program would not repair those.
//! - `stack-app prepare` creates the tables and leaves existing ones alone.
//! - `stack-app work` counts in redis, one tick per second, and exits with an error after
//!   `CRASH_AFTER` ticks, to demonstrate restarts.
//!
//! `REDIS` and `POSTGRES` are the addresses of the two, by default `redis:6379` and `db:5432`.

mod http;
mod net;
mod page;
mod postgres;
mod redis;

use std::net::{Ipv6Addr, TcpListener};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, io, thread};

use http::{Request, Response};
use page::Page;
use postgres::{Postgres, PostgresError};
use redis::{Redis, RedisError};

/// Why the program, or one request of it, failed.
#[derive(Debug, thiserror::Error)]
enum AppError {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    #[error("listen on port {PORT}: {0}")]
    Listen(io::Error),
    #[error("usage: stack-app serve | prepare | work")]
    Usage,
    #[error("crashing on purpose after {0} ticks")]
    OnPurpose(u32),
}

/// The port of `serve`.
const PORT: u16 = 8000;

fn main() -> ExitCode {
    let result = match env::args().nth(1).as_deref() {
        Some("serve") => serve(),
        Some("prepare") => prepare(),
        Some("work") => work(),
        _ => Err(AppError::Usage),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn setting(name: &str, default: &str) -> String {
    env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn open_redis() -> Result<Redis, AppError> {
    Ok(Redis::connect(&setting("REDIS", "redis:6379"))?)
}

fn open_postgres() -> Result<Postgres, AppError> {
    Ok(Postgres::connect(&setting("POSTGRES", "db:5432"), "app", "app")?)
}

fn serve() -> Result<(), AppError> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT))
        .or_else(|_| TcpListener::bind(("0.0.0.0", PORT)))
        .map_err(AppError::Listen)?;
    println!("listening on port {PORT}");
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => {
                thread::spawn(move || {
                    // The client closed the connection: nothing to report.
                    let _ = http::serve(&stream, answer);
                });
            }
            // Out of descriptors, or the client has gone: try the next connection.
            Err(error) => {
                eprintln!("accept: {error}");
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
    Ok(())
}

fn answer(request: &Request) -> Response {
    let result = match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/") => front_page().map(|page| Response::html(page.html())),
        ("POST", "/sign") => sign(&request.body).map(|()| Response::see_front_page()),
        ("GET", "/healthz") => Ok(Response::text("200 OK", "fine\n".into())),
        _ => Ok(Response::text("404 Not Found", "not found\n".into())),
    };
    result.unwrap_or_else(|error| {
        eprintln!("{} {}: {error}", request.method, request.path);
        Response::text("503 Service Unavailable", format!("{error}\n"))
    })
}

fn front_page() -> Result<Page, AppError> {
    let mut redis = open_redis()?;
    let visits = redis.increment("visits")?;
    let ticks = redis.get("ticks")?.unwrap_or_else(|| "0".into());
    let lives = redis.get("lives")?.unwrap_or_else(|| "0".into());
    let rows = open_postgres()?.run(
        "SELECT to_char(signed, 'YYYY-MM-DD HH24:MI'), name, words \
         FROM guests ORDER BY signed DESC, id DESC LIMIT 20",
        &[],
    )?;
    let entries = rows
        .into_iter()
        .map(|row| {
            let mut columns = row.into_iter().map(Option::unwrap_or_default);
            [(); 3].map(|()| columns.next().unwrap_or_default())
        })
        .collect();
    Ok(Page { visits, ticks, lives, entries })
}

fn sign(form: &[u8]) -> Result<(), AppError> {
    // Column lengths are in characters; PostgreSQL's text type cannot hold zero bytes.
    let field = |name, longest| -> String {
        let text = http::form_value(form, name).unwrap_or_default();
        text.chars().filter(|&character| character != '\0').take(longest).collect()
    };
    let (name, words) = (field("name", 40), field("words", 200));
    open_postgres()?.run("INSERT INTO guests (name, words) VALUES ($1, $2)", &[&name, &words])?;
    println!("{} signed the guest book", name.escape_debug());
    Ok(())
}

fn prepare() -> Result<(), AppError> {
    let mut postgres = open_postgres()?;
    postgres.run(
        "CREATE TABLE IF NOT EXISTS guests (\
         id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
         signed timestamptz NOT NULL DEFAULT now(), \
         name varchar(40) NOT NULL, words varchar(200) NOT NULL)",
        &[],
    )?;
    postgres.run(
        "INSERT INTO guests (name, words) SELECT 'prepare', 'the tables are laid' \
         WHERE NOT EXISTS (SELECT FROM guests)",
        &[],
    )?;
    println!("the tables exist");
    Ok(())
}

fn work() -> Result<(), AppError> {
    // Runs of 10 s or more count as stable, so after 15 s each crash is followed by an immediate
    // restart.
    let last: u32 = setting("CRASH_AFTER", "15").parse().unwrap_or(15);
    let mut redis = open_redis()?;
    println!("life number {}", redis.increment("lives")?);
    for _ in 0..last {
        thread::sleep(Duration::from_secs(1));
        redis.increment("ticks")?;
    }
    Err(AppError::OnPurpose(last))
}
