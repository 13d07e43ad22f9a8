//! Units: their state, starting and stopping them.

use crate::app::App;
use crate::error::Error;
use crate::response::{Json, JsonList};
use crate::router::Call;
use api_types::{ErrorCode, Explanation, Outcome, SignalRequest, State, Unit, signal_name};
use ipc::control::Request;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep, timeout_at};

/// Longest `wait`, in seconds.
const MAX_WAIT: u64 = 3600;
/// How often a unit is checked while its change is waited for, besides at each event about it.
const LOOK: Duration = Duration::from_millis(500);

/// The unit in a path.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(names("name"), parameter_in = Path)]
pub struct UnitName(
    /// The unit's name; `localhost` is not allowed.
    #[param(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    pub String,
);

/// How long to wait for a change; at most `MAX_WAIT` seconds.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Wait {
    /// seconds to wait until the change is complete
    #[param(maximum = 3600)]
    pub wait: Option<u64>,
}

/// All units.
#[utoipa::path(get, path = "/v1/units", operation_id = "units", tag = "units")]
pub async fn list(call: Call) -> Result<JsonList<Unit>, Error> {
    call.query.only(&[])?;
    Ok(JsonList(call.app.ask(&call.key, Request::Units).await?))
}

/// One unit.
#[utoipa::path(
    get,
    path = "/v1/units/{name}",
    operation_id = "unit",
    tag = "units",
    params(UnitName)
)]
pub async fn get(call: Call) -> Result<Json<Unit>, Error> {
    call.query.only(&[])?;
    Ok(Json(call.app.ask(&call.key, Request::Unit { name: call.unit }).await?))
}

/// Why a unit is in its state.
#[utoipa::path(get, path = "/v1/units/{name}/explain", tag = "units", params(UnitName))]
pub async fn explain(call: Call) -> Result<Json<Explanation>, Error> {
    call.query.only(&[])?;
    Ok(Json(call.app.ask(&call.key, Request::Explain { name: call.unit }).await?))
}

/// Starts a unit now, in whatever state it is. With `wait`, answers when it is ready.
#[utoipa::path(post, path = "/v1/units/{name}/start", tag = "units", params(UnitName, Wait))]
pub async fn start(call: Call) -> Result<Json<Outcome>, Error> {
    change(call, Goal::Start).await
}

/// Stops a unit and keeps it stopped. With `wait`, answers when none of its processes is left.
#[utoipa::path(post, path = "/v1/units/{name}/stop", tag = "units", params(UnitName, Wait))]
pub async fn stop(call: Call) -> Result<Json<Outcome>, Error> {
    change(call, Goal::Stop).await
}

/// Stops a unit if it runs, and starts it. With `wait`, answers when its new run is ready.
#[utoipa::path(post, path = "/v1/units/{name}/restart", tag = "units", params(UnitName, Wait))]
pub async fn restart(call: Call) -> Result<Json<Outcome>, Error> {
    change(call, Goal::Restart).await
}

/// Sends a signal to the main process of a unit.
#[utoipa::path(post, path = "/v1/units/{name}/signal", tag = "units",
    params(UnitName), request_body = SignalRequest)]
pub async fn signal(mut call: Call) -> Result<Json<Outcome>, Error> {
    call.query.only(&[])?;
    let SignalRequest { signal } = call.json().await?;
    let number =
        units::process::parse_signal(&signal).map_err(|error| Error::invalid(error.to_string()))?;
    let Call { app, key, unit: name, .. } = call;
    let () = app.ask(&key, Request::SignalUnit { name: name.clone(), signal: number }).await?;
    let unit: Unit = app.ask(&key, Request::Unit { name: name.clone() }).await?;
    let signal = signal_name(number).unwrap_or_else(|| format!("signal {number}"));
    Ok(Json(Outcome { message: format!("sent {signal} to {name}"), unit: Some(unit) }))
}

/// The requested change of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    Start,
    Stop,
    Restart,
}

/// Whether the goal is reached.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Reached,
    UnderWay,
    Missed,
}

impl Goal {
    /// `before`: the number of the run before the request.
    fn progress(self, unit: &Unit, before: u64) -> Progress {
        let down = matches!(unit.state, State::Stopped | State::Failed | State::Done);
        match self {
            Goal::Stop if down => Progress::Reached,
            Goal::Stop => Progress::UnderWay,
            Goal::Restart if unit.generation <= before && unit.state != State::Stopped => {
                Progress::UnderWay
            }
            _ if unit.ready || unit.state == State::Done => Progress::Reached,
            // In back-off it is started again, perhaps in time.
            _ if down => Progress::Missed,
            _ => Progress::UnderWay,
        }
    }
}

async fn change(call: Call, goal: Goal) -> Result<Json<Outcome>, Error> {
    call.query.only(&["wait"])?;
    let wait = call.query.number("wait", "a number of seconds", MAX_WAIT)?;
    let Call { app, key, unit: name, .. } = call;
    let get = || app.ask::<Unit>(&key, Request::Unit { name: name.clone() });
    // Before anything is done, so that no event is missed.
    let mut events = app.events.subscribe();
    let before = match (wait, goal) {
        (Some(_), Goal::Restart) => get().await?.generation,
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
    let mut unit: Unit = app.ask(&key, request).await?;
    let Some(wait) = wait else {
        let verb = match goal {
            Goal::Start => "start",
            Goal::Stop => "stop",
            Goal::Restart => "restart",
        };
        let message = format!("{verb} of {name}: it is {}", unit.state);
        return Ok(Json(Outcome { message, unit: Some(unit) }));
    };
    let deadline = Instant::now() + Duration::from_secs(wait);
    loop {
        match goal.progress(&unit, before) {
            Progress::Reached => {
                let message = match goal {
                    Goal::Stop => format!("{name} is stopped"),
                    _ if unit.state == State::Done => format!("{name} is done"),
                    _ => format!("{name} is ready"),
                };
                return Ok(Json(Outcome { message, unit: Some(unit) }));
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
        match get().await {
            Ok(newer) => unit = newer,
            // The supervisor may be killed meanwhile; the unit keeps running.
            Err(error)
                if matches!(
                    error.code(),
                    ErrorCode::Unavailable | ErrorCode::Timeout | ErrorCode::Busy
                ) && Instant::now() < deadline => {}
            Err(error) => return Err(error),
        }
    }
}

async fn missed(app: &App, key: &str, goal: Goal, unit: &Unit) -> Error {
    let name = &unit.name;
    let what = if goal == Goal::Stop { "stopped" } else { "ready" };
    let why = unit.reason.clone().unwrap_or_else(|| format!("it is {}", unit.state));
    let explained = app.ask::<Explanation>(key, Request::Explain { name: name.clone() }).await;
    let lines = explained.map(|explanation| explanation.lines);
    Error::new(ErrorCode::NotReady, format!("{name} is not {what}: {why}"))
        .details(lines.unwrap_or_default())
}
