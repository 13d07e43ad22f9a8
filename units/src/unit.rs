//! One unit file: its top-level keys, `restart`, `[healthcheck]`, `[limits]`, `[log]`, and the checks
//! across them.

use crate::container::{self, Spans};
use crate::model::{
    Condition, Healthcheck, Kind, Limits, LogPolicy, MIN_RESTART_DELAY, OnFailure, Ready, Restart,
    RestartPolicy, Unit,
};
use crate::names::parse_condition;
use crate::process::{parse_http_probe, parse_signal, parse_tcp_probe, signal_number};
use crate::reader::{Reader, Source};
use crate::schema;
use crate::syntax;
use crate::value::{Text, Value};
use std::ops::Range;
use std::time::Duration;

/// Default of `wait_timeout` and of a service's `start_timeout`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(90);
/// Default of `stop_timeout`.
const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Default of `restart.delay`.
const DEFAULT_DELAY: Duration = Duration::from_millis(100);
/// Default of `restart.max_delay`.
const DEFAULT_MAX_DELAY: Duration = Duration::from_secs(60);
/// Default of `limits.pids`, as in podman: far more than a service needs, far less than a fork bomb.
const DEFAULT_PIDS: u64 = 2048;
/// The highest `kernel.pid_max` (proc_sys_kernel(5)).
const MAX_PIDS: u64 = 4_194_304;
/// The kernel's default `fs.nr_open`.
const MAX_FILES: u64 = 1_048_576;
/// A container cannot be set up with less memory.
const MIN_MEMORY: u64 = 1 << 20;
/// One page: with a lower limit no I/O could make progress.
const MIN_IO: u64 = 4 << 10;
/// Smaller files would be rotated all the time.
const MIN_LOG: u64 = 64 << 10;
/// Default of `log.max_size`.
const DEFAULT_LOG: u64 = 10 << 20;
/// Default of `log.max_files`.
const DEFAULT_LOG_FILES: u32 = 3;

const POLICIES: [(&str, RestartPolicy); 3] = [
    ("always", RestartPolicy::Always),
    ("on-failure", RestartPolicy::OnFailure),
    ("never", RestartPolicy::Never),
];

/// The key that refers to another unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkKind {
    After,
    Requires,
    Wants,
}

impl LinkKind {
    /// The key.
    pub(crate) fn key(self) -> &'static str {
        match self {
            LinkKind::After => "after",
            LinkKind::Requires => "requires",
            LinkKind::Wants => "wants",
        }
    }
}

/// One reference to another unit, with its span.
pub(crate) struct Link {
    pub(crate) kind: LinkKind,
    pub(crate) to: String,
    pub(crate) span: Range<usize>,
}

/// A unit with the spans that checks across units need. If the source has errors, the unit is a best
/// guess for further checks.
pub(crate) struct Parsed<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) unit: Unit,
    pub(crate) links: Vec<Link>,
    pub(crate) waits: Vec<(Condition, Range<usize>)>,
    pub(crate) spans: Spans,
}

/// Reads one unit file.
pub(crate) fn parse<'a>(source: Source<'a>, name: &str) -> Parsed<'a> {
    let mut unit = defaults(name);
    let (mut links, mut waits, mut spans) = (Vec::new(), Vec::new(), Spans::default());
    if let Some(table) = syntax::parse(&source) {
        let top = Reader::new(&source, table.get_ref(), &schema::UNIT, &schema::UNIT_TABLES, 0..0);
        for kind in [LinkKind::After, LinkKind::Requires, LinkKind::Wants] {
            links.extend(read_links(&top, kind));
        }
        waits = read_waits(&top);
        read_top(&top, &mut unit);
        read_restart(&top, &mut unit);
        match top.get("container") {
            Some(value) => container::read(&value, &mut unit.container, &mut spans),
            None => source.error(
                &(0..0),
                "missing table `[container]`",
                "add `[container]` with `image = \"./images/NAME\"`",
            ),
        }
        unit.healthcheck = top.get("healthcheck").and_then(|value| read_healthcheck(&value));
        read_limits(&top, &mut unit.limits);
        read_log(&top, &mut unit.log);
        check(&top, &unit);
    }
    let named = |kind| {
        let of_kind = links.iter().filter(|link: &&Link| link.kind == kind);
        of_kind.map(|link| link.to.clone()).collect()
    };
    unit.after = named(LinkKind::After);
    unit.requires = named(LinkKind::Requires);
    unit.wants = named(LinkKind::Wants);
    unit.wait_for = waits.iter().map(|(condition, _)| condition.clone()).collect();
    Parsed { source, unit, links, waits, spans }
}

/// A unit with the default of every key.
fn defaults(name: &str) -> Unit {
    Unit {
        name: name.to_owned(),
        description: String::new(),
        after: Vec::new(),
        requires: Vec::new(),
        wants: Vec::new(),
        wait_for: Vec::new(),
        wait_timeout: Some(DEFAULT_TIMEOUT),
        kind: Kind::Service,
        ready: Ready::Started,
        start_timeout: Some(DEFAULT_TIMEOUT),
        restart: Restart {
            policy: RestartPolicy::Always,
            delay: DEFAULT_DELAY,
            max_delay: DEFAULT_MAX_DELAY,
            max_attempts: None,
            window: None,
        },
        stop_signal: None,
        stop_timeout: DEFAULT_STOP_TIMEOUT,
        on_failure: OnFailure::Continue,
        enabled: true,
        container: container::defaults(),
        healthcheck: None,
        limits: Limits { pids: Some(DEFAULT_PIDS), ..Limits::default() },
        log: LogPolicy { max_size: DEFAULT_LOG, max_files: DEFAULT_LOG_FILES },
    }
}

fn read_links(top: &Reader<'_>, kind: LinkKind) -> Vec<Link> {
    let names = top.get(kind.key()).and_then(|value| value.texts()).unwrap_or_default();
    deduplicated(top, names, kind.key())
        .into_iter()
        .map(|text| Link { kind, to: text.value.to_owned(), span: text.span })
        .collect()
}

fn read_waits(top: &Reader<'_>) -> Vec<(Condition, Range<usize>)> {
    let names = top.get("wait_for").and_then(|value| value.texts()).unwrap_or_default();
    deduplicated(top, names, "wait_for")
        .into_iter()
        .filter_map(|text| Some((text.read(parse_condition)?, text.span)))
        .collect()
}

/// Removes duplicates, with a warning.
fn deduplicated<'a>(top: &Reader<'a>, texts: Vec<Text<'a>>, key: &str) -> Vec<Text<'a>> {
    let mut kept: Vec<Text<'a>> = Vec::with_capacity(texts.len());
    for text in texts {
        if kept.iter().any(|other| other.value == text.value) {
            let message = format!("duplicate entry `{}` in `{key}`", text.value);
            top.source.warning(&text.span, message, "");
        } else {
            kept.push(text);
        }
    }
    kept
}

fn read_top(top: &Reader<'_>, unit: &mut Unit) {
    if let Some(text) = top.get("description").and_then(|value| value.text("a string")) {
        unit.description = text.value.to_owned();
    }
    let kinds = [("service", Kind::Service), ("oneshot", Kind::Oneshot)];
    if let Some(kind) = top.get("type").and_then(|value| value.word(&kinds)) {
        unit.kind = kind;
    }
    if unit.kind == Kind::Oneshot {
        unit.start_timeout = None;
        unit.restart.policy = RestartPolicy::Never;
    }
    let readies =
        [("started", Ready::Started), ("notify", Ready::Notify), ("healthy", Ready::Healthy)];
    if let Some(ready) = top.get("ready").and_then(|value| value.word(&readies)) {
        unit.ready = ready;
    }
    if let Some(timeout) = top.get("wait_timeout").and_then(|value| value.timeout()) {
        unit.wait_timeout = timeout;
    }
    if let Some(timeout) = top.get("start_timeout").and_then(|value| value.timeout()) {
        unit.start_timeout = timeout;
    }
    if let Some(timeout) = top.get("stop_timeout").and_then(|value| value.duration()) {
        unit.stop_timeout = timeout;
    }
    unit.stop_signal = top.get("stop_signal").and_then(|value| read_signal(top, &value));
    let reactions = [
        ("continue", OnFailure::Continue),
        ("reboot", OnFailure::Reboot),
        ("poweroff", OnFailure::Poweroff),
    ];
    if let Some(reaction) = top.get("on_failure").and_then(|value| value.word(&reactions)) {
        unit.on_failure = reaction;
    }
    if let Some(enabled) = top.get("enabled").and_then(|value| value.boolean()) {
        unit.enabled = enabled;
    }
}

fn read_signal(top: &Reader<'_>, value: &Value<'_>) -> Option<i32> {
    if !value.is_integer() {
        return value.text("a signal such as \"SIGTERM\"")?.read(parse_signal);
    }
    match signal_number(value.integer("a signal")?) {
        Ok(number) => Some(number),
        Err(message) => {
            top.source.error(&value.span, message, "");
            None
        }
    }
}

fn read_restart(top: &Reader<'_>, unit: &mut Unit) {
    let Some(value) = top.get("restart") else { return };
    let oneshot = unit.kind == Kind::Oneshot;
    let restart = &mut unit.restart;
    let mut policy_span = value.span.clone();
    if value.is_table() {
        let Some(table) = value.reader(&schema::RESTART, &schema::UNIT_TABLES) else { return };
        if let Some(value) = table.get("policy") {
            restart.policy = value.word(&POLICIES).unwrap_or(restart.policy);
            policy_span = value.span;
        }
        let delay = table.get("delay");
        if let Some(delay) = delay.as_ref().and_then(|value| value.duration_from(MIN_RESTART_DELAY))
        {
            restart.delay = delay;
            restart.max_delay = restart.max_delay.max(delay);
        }
        if let Some(value) = table.get("max_delay")
            && let Some(max) = value.duration_from(MIN_RESTART_DELAY)
        {
            if max < restart.delay {
                let hint = match delay {
                    Some(_) => "make `max_delay` at least as long as `delay`",
                    None => "`delay` defaults to `100ms`",
                };
                top.source.error(&value.span, "`max_delay` is shorter than `delay`", hint);
            }
            restart.max_delay = max;
        }
        restart.max_attempts = table
            .get("max_attempts")
            .and_then(|value| value.integer_in(1, u64::from(u32::MAX)))
            .and_then(|attempts| u32::try_from(attempts).ok());
        if let Some(value) = table.get("window") {
            restart.window = value.duration_from(Duration::from_millis(1));
            if table.get("max_attempts").is_none() {
                let message = "`window` has no effect without `max_attempts`";
                top.source.warning(&value.key_span, message, "");
            }
        }
    } else if value.is_string() {
        restart.policy = value.word(&POLICIES).unwrap_or(restart.policy);
    } else {
        value.expected("a policy such as \"always\", or a table", "");
    }
    if oneshot && restart.policy == RestartPolicy::Always {
        let hint = "use `on-failure` or `never`, or make the unit a service";
        top.source.error(&policy_span, "a one-shot cannot use the restart policy `always`", hint);
    }
}

fn read_healthcheck(value: &Value<'_>) -> Option<Healthcheck> {
    let table = value.reader(&schema::HEALTHCHECK, &schema::UNIT_TABLES)?;
    let mut probes = Vec::new();
    let http = table.get("http");
    if let Some(value) = &http {
        let text = value.text("port and path such as \":80/healthz\"");
        probes.push((value.key_span.clone(), text.and_then(|text| text.read(parse_http_probe))));
    }
    if let Some(value) = table.get("tcp") {
        let text = value.text("a port such as \":6379\"");
        probes.push((value.key_span.clone(), text.and_then(|text| text.read(parse_tcp_probe))));
    }
    if let Some(value) = table.get("command") {
        let command = container::command(table.source, &value);
        probes.push((value.key_span.clone(), command.map(crate::model::Probe::Command)));
    }
    probes.sort_by_key(|(at, _)| at.start);
    for (at, _) in probes.iter().skip(1) {
        let message = "a health check can have only one probe";
        table.source.error(at, message, "keep one of `http`, `tcp` and `command`");
    }
    if probes.is_empty() {
        let message = "`[healthcheck]` has no probe";
        table.source.error(&table.span, message, "add one of `http`, `tcp` and `command`");
    }
    let duration = |key: &str, min: u64, default: Duration| {
        let value = table.get(key);
        value.and_then(|v| v.duration_from(Duration::from_millis(min))).unwrap_or(default)
    };
    let interval = duration("interval", 100, Duration::from_secs(10));
    let timeout = duration("timeout", 10, Duration::from_secs(3));
    let start_period = duration("start_period", 0, Duration::ZERO);
    let retries = table
        .get("retries")
        .and_then(|value| value.integer_in(1, 1000))
        .and_then(|retries| u32::try_from(retries).ok())
        .unwrap_or(3);
    let probe = probes.into_iter().next().and_then(|(_, probe)| probe)?;
    Some(Healthcheck { probe, interval, timeout, retries, start_period })
}

fn read_limits(top: &Reader<'_>, limits: &mut Limits) {
    let Some(value) = top.get("limits") else { return };
    let Some(table) = value.reader(&schema::LIMITS, &schema::UNIT_TABLES) else { return };
    limits.memory = table.get("memory").and_then(|value| value.size_from(MIN_MEMORY));
    if let Some(value) = table.get("cpus")
        && let Some(millis) = value.thousandths()
    {
        // The shortest quota that the kernel accepts is 1 ms of each 100 ms.
        if (10..=1_024_000).contains(&millis) {
            limits.cpu_millis = Some(millis);
        } else {
            let hint = "the range is 0.01 to 1024; `0.5` is half a CPU";
            top.source.error(&value.span, "`cpus` is out of range", hint);
        }
    }
    let size = |key: &str, min| table.get(key).and_then(|value| value.size_from(min));
    limits.memory_high = size("memory_high", MIN_MEMORY);
    if let (Some(high), Some(max)) = (limits.memory_high, limits.memory)
        && high > max
        && let Some(value) = table.get("memory_high")
    {
        let hint =
            "the container would be killed at `memory` before it is throttled at `memory_high`";
        top.source.error(&value.span, "`memory_high` is larger than `memory`", hint);
    }
    limits.swap = size("swap", 0);
    limits.cpu_weight = table.get("cpu_weight").and_then(|value| value.integer_in(1, 10_000));
    limits.io_read = size("io_read", MIN_IO);
    limits.io_write = size("io_write", MIN_IO);
    if let Some(pids) = table.get("pids").and_then(|value| value.integer_in(1, MAX_PIDS)) {
        limits.pids = Some(pids);
    }
    limits.nofile = table.get("nofile").and_then(|value| value.integer_in(1, MAX_FILES));
}

fn read_log(top: &Reader<'_>, log: &mut LogPolicy) {
    let Some(value) = top.get("log") else { return };
    let Some(table) = value.reader(&schema::LOG, &schema::UNIT_TABLES) else { return };
    if let Some(size) = table.get("max_size").and_then(|value| value.size_from(MIN_LOG)) {
        log.max_size = size;
    }
    let files = table.get("max_files").and_then(|value| value.integer_in(1, 1000));
    if let Some(files) = files.and_then(|files| u32::try_from(files).ok()) {
        log.max_files = files;
    }
}

/// Checks across keys of different tables.
fn check(top: &Reader<'_>, unit: &Unit) {
    let source = top.source;
    let healthcheck = top.get("healthcheck");
    if unit.kind == Kind::Oneshot {
        if let Some(value) = top.get("ready").filter(|_| unit.ready != Ready::Started) {
            let hint = "a one-shot is done when it exits with 0; remove `ready`";
            source.error(&value.span, "a one-shot cannot be ready before it exits", hint);
        }
        if let Some(value) = &healthcheck {
            let hint = "remove `[healthcheck]`, or make the unit a service";
            source.error(&value.key_span, "a one-shot cannot have a health check", hint);
        }
    } else if unit.ready == Ready::Healthy
        && healthcheck.is_none()
        && let Some(value) = top.get("ready")
    {
        let hint = "add one, such as `http = \":80/\"` in `[healthcheck]`";
        source.error(&value.span, "`ready = \"healthy\"` needs a `[healthcheck]`", hint);
    }
    let can_fail = unit.kind == Kind::Oneshot
        || unit.restart.policy == RestartPolicy::Never
        || unit.restart.max_attempts.is_some();
    if let Some(value) = top.get("on_failure")
        && unit.on_failure != OnFailure::Continue
        && !can_fail
    {
        let message = "`on_failure` has no effect: the service is restarted without limit";
        source.warning(&value.key_span, message, "add `restart = { max_attempts = 5 }`");
    }
}
