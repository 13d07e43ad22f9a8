//! Health checks: started when the core orders one, and answered within their timeout.

pub mod probe;

use crate::kernel::{ConnectError, EpollFlags, Errno, ExecRequest, Kernel, Source};
use crate::running::actions::send_signal;
use crate::running::plan;
use crate::running::runs::{Probe, ProbeKind, Process};
use crate::shell::{Shell, ShellError};
use container::Setup;
use ipc::ExitStatus;
use policy::RunEvent;
use probe::NetProbe;
use units::model;

/// Maximum number of characters shown of a failed command's output.
const OUTPUT_SHOWN: usize = 200;

/// Bytes of a command's output that are kept: its end.
const OUTPUT_KEPT: usize = 4096;

impl<K: Kernel> Shell<K> {
    /// Starts a check; if that fails, the check has failed.
    pub(crate) fn probe(&mut self, name: &str, generation: u64) {
        self.end_probe(name);
        if let Err(why) = self.begin_probe(name, generation) {
            self.feed_run(name, generation, RunEvent::Health { result: Err(why) });
        }
    }

    fn begin_probe(&mut self, name: &str, generation: u64) -> Result<(), String> {
        let unit = self.config.host.units.get(name).ok_or("the unit is gone")?.clone();
        let check = unit.healthcheck.as_ref().ok_or("the unit has no health check")?;
        let timeout = u64::try_from(check.timeout.as_millis()).unwrap_or(u64::MAX);
        let kind = match &check.probe {
            model::Probe::Tcp { port } => self.connect_probe(name, *port, None)?,
            model::Probe::Http { port, path } => self.connect_probe(name, *port, Some(path))?,
            model::Probe::Command(argv) => self.command_probe(&unit, argv)?,
        };
        let until_ms = self.now().as_millis().saturating_add(timeout);
        let began_us = self.kernel.now_us();
        self.runs.of(name).probe = Some(Probe { generation, began_us, until_ms, kind });
        self.advance_probe(name);
        Ok(())
    }

    fn connect_probe(
        &mut self,
        name: &str,
        port: u16,
        path: Option<&str>,
    ) -> Result<ProbeKind<K::Fd>, String> {
        let net = self.runs.get(name).and_then(|runtime| runtime.net.as_ref());
        let socket = match self.kernel.connect(net.map(|net| &net.ns), port) {
            Ok(socket) => socket,
            Err(ConnectError::Failed(error)) => return Err(error.to_string()),
            Err(lost @ ConnectError::Lost(_)) => {
                let reason = lost.to_string();
                self.fail(ShellError::Lost(reason.clone()));
                return Err(reason);
            }
        };
        let probe = NetProbe::new(socket, path);
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        self.kernel
            .watch(Source::Probe(name.to_owned()), probe.socket(), flags)
            .map_err(|error| error.to_string())?;
        Ok(ProbeKind::Net(probe))
    }

    fn command_probe(
        &mut self,
        unit: &model::Unit,
        argv: &[String],
    ) -> Result<ProbeKind<K::Fd>, String> {
        let image =
            self.config.images.images.get(&unit.container.image).ok_or("the image is gone")?;
        let mut process = plan::process(unit, image).map_err(|error| error.to_string())?;
        process.argv = argv.to_vec();
        let runtime = self.runs.of(&unit.name);
        let pidfd = runtime
            .run
            .as_ref()
            .and_then(|run| run.pidfd.as_ref())
            .ok_or("the container has ended")?;
        let cgroup = runtime.cgroup.as_ref().ok_or("the container has no cgroup")?;
        let (output, write) = self.kernel.pipe().map_err(|error| error.to_string())?;
        // Only this end is non-blocking: for the command it is a normal pipe.
        self.kernel.set_nonblocking(&output).map_err(|error| error.to_string())?;
        let filter = self.config.filters.of(&unit.name)?;
        let request = ExecRequest {
            pidfd,
            group: &**cgroup,
            ids: runtime.ids(),
            process,
            filter: filter.as_deref(),
            stdin: None,
            stdout: &write,
            stderr: &write,
        };
        let executed = self.kernel.exec(&request).map_err(|error| error.to_string())?;
        self.kernel
            .watch(Source::Probe(unit.name.clone()), &output, EpollFlags::EPOLLIN)
            .map_err(|error| error.to_string())?;
        self.runs.processes.insert(executed.pid, Process::Probe { unit: unit.name.clone() });
        Ok(ProbeKind::Command {
            pid: executed.pid,
            pidfd: executed.pidfd,
            output,
            said: Vec::new(),
            status: executed.status,
        })
    }

    /// Continues a check when its connection is ready or its command has written output.
    pub(crate) fn advance_probe(&mut self, name: &str) {
        let Some(Probe { generation, kind, .. }) = &mut self.runs.of(name).probe else { return };
        match kind {
            ProbeKind::Net(probe) => {
                if let Some(result) = probe.advance(&self.kernel) {
                    let generation = *generation;
                    self.probe_answered(name, generation, result);
                }
            }
            ProbeKind::Command { output, said, .. } => {
                if !hear(&self.kernel, output, said) {
                    // The pipe is at its end; the exit status follows.
                    self.kernel.unwatch(&Source::Probe(name.to_owned()), output);
                }
            }
        }
    }

    /// A check's command has ended.
    pub(crate) fn probe_command_ended(&mut self, name: &str, ended: i32, exit: ExitStatus) {
        let Some(Probe {
            generation,
            kind: ProbeKind::Command { pid, output, said, status, .. },
            ..
        }) = &mut self.runs.of(name).probe
        else {
            return;
        };
        // The late exit of an earlier check's command says nothing about this one.
        if *pid != ended {
            return;
        }
        let generation = *generation;
        let result = match (exit, self.kernel.read_status(status)) {
            (_, Ok(Setup::Failed(error))) => Err(error.to_string()),
            (ExitStatus::Code(0), _) => Ok(()),
            (exit, _) => {
                hear(&self.kernel, output, said);
                Err(describe(exit, &last_line(said)))
            }
        };
        self.probe_answered(name, generation, result);
    }

    fn probe_answered(&mut self, name: &str, generation: u64, result: Result<(), String>) {
        let now_us = self.kernel.now_us();
        let runtime = self.runs.of(name);
        let began_us = runtime.probe.as_ref().map(|probe| probe.began_us);
        runtime.latency_us = began_us.map(|began_us| now_us.saturating_sub(began_us));
        self.end_probe(name);
        self.feed_run(name, generation, RunEvent::Health { result });
    }

    /// Fails the checks that have had no answer in time.
    pub(crate) fn check_probes(&mut self) {
        let now = self.now().as_millis();
        let late: Vec<(String, u64)> = self
            .runs
            .iter()
            .filter_map(|(name, runtime)| {
                let probe = runtime.probe.as_ref().filter(|probe| probe.until_ms <= now)?;
                Some((name.clone(), probe.generation))
            })
            .collect();
        for (name, generation) in late {
            self.end_probe(&name);
            self.feed_run(
                &name,
                generation,
                RunEvent::Health { result: Err("no answer in time".to_owned()) },
            );
        }
    }

    /// Ends a check, and kills its command.
    pub(crate) fn end_probe(&mut self, name: &str) {
        let Some(probe) = self.runs.of(name).probe.take() else { return };
        match probe.kind {
            ProbeKind::Net(probe) => {
                self.kernel.unwatch(&Source::Probe(name.to_owned()), probe.socket());
            }
            ProbeKind::Command { pidfd, output, .. } => {
                self.kernel.unwatch(&Source::Probe(name.to_owned()), &output);
                send_signal(&self.kernel, &pidfd, libc::SIGKILL);
            }
        }
    }
}

fn describe(exit: ExitStatus, output: &str) -> String {
    let how = match exit {
        ExitStatus::Code(code) => format!("exit code {code}"),
        ExitStatus::Signal(signal) => format!("killed by signal {signal}"),
    };
    if output.is_empty() { how } else { format!("{how}: {output}") }
}

/// Reads what a command has written, and keeps the end of it. `false`: there will be no more.
fn hear<K: Kernel>(kernel: &K, output: &K::Fd, said: &mut Vec<u8>) -> bool {
    let mut buffer = [0u8; 4096];
    // Bounded: a command that never stops writing is read again later.
    for _ in 0..64 {
        match kernel.read(output, &mut buffer) {
            Ok(0) => return false,
            Ok(got) => {
                said.extend_from_slice(buffer.get(..got).unwrap_or_default());
                said.drain(..said.len().saturating_sub(OUTPUT_KEPT));
            }
            Err(Errno::EAGAIN) => return true,
            Err(_) => return false,
        }
    }
    true
}

/// The last line that is not blank, shortened for display.
fn last_line(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    last.chars().filter(|c| !c.is_control()).take(OUTPUT_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::linux::Linux;
    use std::io::Write;

    #[test]
    fn a_command_that_writes_more_than_a_pipe_holds_is_heard_to_its_end() {
        let kernel = Linux::new().unwrap();
        let (output, write) = kernel.pipe().unwrap();
        kernel.set_nonblocking(&output).unwrap();
        let writer = std::thread::spawn(move || {
            let mut file = std::fs::File::from(write);
            for number in 0..20_000 {
                writeln!(file, "line {number}").unwrap();
            }
        });
        let mut said = Vec::new();
        while hear(&kernel, &output, &mut said) {
            std::thread::yield_now();
        }
        writer.join().unwrap();
        assert_eq!(last_line(&said), "line 19999");
        assert!(said.len() <= OUTPUT_KEPT);
    }
}
