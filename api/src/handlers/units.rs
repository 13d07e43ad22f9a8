//! Units: seeing them, starting and stopping them.

use crate::app::App;
use crate::error::Error;
use crate::router::{Answer, Call, json};
use api_types::{ErrorBody, ErrorCode, Explanation, SignalRequest, State, Unit};
use ipc::control::Request;
use serde_json::{Value, json as value};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep, timeout_at};

/// Longest `wait`, in seconds.
const MAX_WAIT: u64 = 3600;
/// How often a unit is looked at that is waited for, besides at each event about it.
const LOOK: Duration = Duration::from_millis(500);

/// The unit in a path.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(names("name"), parameter_in = Path)]
pub struct UnitName(
    /// Names are names of hosts: `localhost` is none.
    #[param(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    pub String,
);

/// How long a change is waited for; [`MAX_WAIT`] at most.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Wait {
    /// seconds for which to wait until it is so
    #[param(maximum = 3600)]
    pub wait: Option<u64>,
}

/// All units.
#[utoipa::path(get, path = "/v1/units", operation_id = "units", tag = "units", responses(
    (status = 200, body = Vec<Unit>), (status = "default", body = ErrorBody)))]
pub async fn list(call: Call) -> Answer {
    call.query.only(&[])?;
    json(&call.app.plain(&call.key, Request::Units).await?)
}

/// One unit.
#[utoipa::path(get, path = "/v1/units/{name}", operation_id = "unit", tag = "units", params(UnitName),
    responses((status = 200, body = Unit), (status = "default", body = ErrorBody)))]
pub async fn get(call: Call) -> Answer {
    call.query.only(&[])?;
    json(&call.app.plain(&call.key, Request::Unit { name: call.unit }).await?)
}

/// Why a unit is as it is.
#[utoipa::path(get, path = "/v1/units/{name}/explain", tag = "units",
    params(UnitName),
    responses((status = 200, body = Explanation), (status = "default", body = ErrorBody)))]
pub async fn explain(call: Call) -> Answer {
    call.query.only(&[])?;
    let lines = call.app.plain(&call.key, Request::Explain { name: call.unit }).await?;
    json(&value!({ "lines": lines }))
}

/// Starts a unit now, from whatever state. With `wait`, answers when it is ready.
#[utoipa::path(post, path = "/v1/units/{name}/start", tag = "units", params(UnitName, Wait),
    responses((status = 200, body = api_types::Did), (status = "default", body = ErrorBody)))]
pub async fn start(call: Call) -> Answer {
    change(call, Goal::Start).await
}

/// Stops a unit and keeps it stopped. With `wait`, answers when nothing of it runs any more.
#[utoipa::path(post, path = "/v1/units/{name}/stop", tag = "units", params(UnitName, Wait),
    responses((status = 200, body = api_types::Did), (status = "default", body = ErrorBody)))]
pub async fn stop(call: Call) -> Answer {
    change(call, Goal::Stop).await
}

/// Stops a unit if it runs, and starts it. With `wait`, answers when its new run is ready.
#[utoipa::path(post, path = "/v1/units/{name}/restart", tag = "units", params(UnitName, Wait),
    responses((status = 200, body = api_types::Did), (status = "default", body = ErrorBody)))]
pub async fn restart(call: Call) -> Answer {
    change(call, Goal::Restart).await
}

/// Sends a signal to the main process of a unit.
#[utoipa::path(post, path = "/v1/units/{name}/signal", tag = "units",
    params(UnitName), request_body = SignalRequest,
    responses((status = 200, body = api_types::Did), (status = "default", body = ErrorBody)))]
pub async fn signal(mut call: Call) -> Answer {
    call.query.only(&[])?;
    let SignalRequest { signal } = call.json().await?;
    let number = units::process::parse_signal(&signal)
        .map_err(|mistake| Error::invalid(mistake.to_string()))?;
    let Call { app, key, unit: name, .. } = call;
    app.plain(&key, Request::SignalUnit { name: name.clone(), signal: number }).await?;
    let unit = app.plain(&key, Request::Unit { name: name.clone() }).await?;
    let signal = nix::sys::signal::Signal::try_from(number)
        .map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().to_owned());
    json(&value!({ "did": format!("sent {signal} to {name}"), "unit": unit }))
}

/// What is to become of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    Start,
    Stop,
    Restart,
}

/// How near the goal is.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Reached,
    UnderWay,
    Missed,
}

impl Goal {
    /// `before`: the number of the run that there was before.
    fn progress(self, unit: &Unit, before: u64) -> Progress {
        let down = matches!(unit.state, State::Stopped | State::Failed | State::Done);
        match self {
            Goal::Stop if down => Progress::Reached,
            Goal::Stop => Progress::UnderWay,
            Goal::Restart if unit.generation <= before && unit.state != State::Stopped => {
                Progress::UnderWay
            }
            _ if unit.ready || unit.state == State::Done => Progress::Reached,
            // In back-off it is tried again, perhaps in time.
            _ if down => Progress::Missed,
            _ => Progress::UnderWay,
        }
    }
}

async fn change(call: Call, goal: Goal) -> Answer {
    call.query.only(&["wait"])?;
    let wait = call.query.number("wait", "a number of seconds", MAX_WAIT)?;
    let Call { app, key, unit: name, .. } = call;
    // Before anything is done, so that nothing is missed.
    let mut events = app.events.subscribe();
    let before = match (wait, goal) {
        (Some(_), Goal::Restart) => look(&app, &key, &name).await?.1.generation,
        _ => 0,
    };
    let request = {
        let name = name.clone();
        match goal {
            Goal::Start => Request::Start { name },
            Goal::Stop => Request::Stop { name },
            Goal::Restart => Request::Restart { name },
        }
    };
    let mut report = app.plain(&key, request).await?;
    let Some(wait) = wait else {
        let verb = match goal {
            Goal::Start => "start",
            Goal::Stop => "stop",
            Goal::Restart => "restart",
        };
        let state = report.get("state").and_then(Value::as_str).unwrap_or("on its way");
        return json(
            &value!({ "did": format!("{verb} of {name}: it is {state}"), "unit": report }),
        );
    };
    let deadline = Instant::now() + Duration::from_secs(wait);
    loop {
        let unit = typed(&report)?;
        match goal.progress(&unit, before) {
            Progress::Reached => {
                let did = match goal {
                    Goal::Stop => format!("{name} is stopped"),
                    _ if unit.state == State::Done => format!("{name} is done"),
                    _ => format!("{name} is ready"),
                };
                return json(&value!({ "did": did, "unit": report }));
            }
            Progress::UnderWay if Instant::now() < deadline => {}
            _ => return Err(missed(&app, &key, goal, &unit).await),
        }
        let something = async {
            loop {
                match events.recv().await {
                    Ok(event) if event.unit.as_deref() == Some(&name) => return,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => return,
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        let _ = timeout_at(deadline, async {
            tokio::select! {
                () = something => {}
                () = sleep(LOOK) => {}
            }
        })
        .await;
        match look(&app, &key, &name).await {
            Ok((newer, _)) => report = newer,
            // The supervisor may be killed while it is waited for; the unit goes on.
            Err(error)
                if matches!(
                    error.code(),
                    ErrorCode::Unavailable | ErrorCode::Timeout | ErrorCode::Busy
                ) && Instant::now() < deadline => {}
            Err(error) => return Err(error),
        }
    }
}

fn typed(report: &Value) -> Result<Unit, Error> {
    <Unit as serde::Deserialize>::deserialize(report)
        .map_err(|error| Error::failed(format!("a unit of another shape: {error}")))
}

async fn look(app: &App, key: &str, name: &str) -> Result<(Value, Unit), Error> {
    let report = app.plain(key, Request::Unit { name: name.to_owned() }).await?;
    let unit = typed(&report)?;
    Ok((report, unit))
}

async fn missed(app: &App, key: &str, goal: Goal, unit: &Unit) -> Error {
    let name = &unit.name;
    let what = if goal == Goal::Stop { "stopped" } else { "ready" };
    let why = unit.reason.clone().unwrap_or_else(|| format!("it is {}", unit.state));
    let explained = app.plain(key, Request::Explain { name: name.clone() }).await;
    let lines = explained.ok().and_then(|lines| serde_json::from_value(lines).ok());
    Error::new(ErrorCode::NotReady, format!("{name} is not {what}: {why}"))
        .details(lines.unwrap_or_default())
}
