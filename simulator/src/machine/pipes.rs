//! Pipes: of standard output and error, of set-ups (status and go) and of health checks.

use super::Machine;
use super::objects::{Id, Object};
use container::SetupError;
use std::collections::VecDeque;

/// A pipe.
#[derive(Debug, Default)]
pub struct Pipe {
    /// What has been written and not read yet.
    pub bytes: VecDeque<u8>,
    /// On a status pipe: why the set-up failed; said once.
    pub failure: Option<SetupError>,
    /// Somebody may still write.
    pub writable: bool,
    /// Somebody may still read.
    pub readable: bool,
    reader: Id,
    /// The unit whose output it takes.
    pub output_of: Option<String>,
    /// The process that reads it to learn whether its program may start.
    pub go_of: Option<u64>,
}

impl Machine {
    /// A new pipe: the end to read from and the end to write to, a reference each.
    pub fn make_pipe(&mut self) -> (Id, Id) {
        self.last_pipe += 1;
        let pipe = self.last_pipe;
        let reader = self.make(Object::PipeReader(pipe));
        let writer = self.make(Object::PipeWriter(pipe));
        let made = Pipe { writable: true, readable: true, reader, ..Pipe::default() };
        self.pipes.insert(pipe, made);
        (reader, writer)
    }

    /// The pipe that an end belongs to.
    pub fn pipe_of(&mut self, end: Id) -> Option<&mut Pipe> {
        let (Object::PipeReader(pipe) | Object::PipeWriter(pipe)) = *self.object(end)? else {
            return None;
        };
        self.pipes.get_mut(&pipe)
    }

    /// Writes into a pipe; `false` when nobody can read it any more.
    pub fn write_pipe(&mut self, writer: Id, bytes: &[u8]) -> bool {
        let Some(pipe) = self.pipe_of(writer).filter(|pipe| pipe.readable) else { return false };
        pipe.bytes.extend(bytes);
        let (reader, go_of) = (pipe.reader, pipe.go_of);
        self.changed(reader);
        if let Some(process) = go_of {
            self.go_came(process);
        }
        true
    }

    /// Leaves the reason of a failed set-up on a status pipe.
    pub fn write_failure(&mut self, writer: Id, failure: SetupError) {
        if let Some(pipe) = self.pipe_of(writer).filter(|pipe| pipe.readable) {
            pipe.failure = Some(failure);
            let reader = pipe.reader;
            self.changed(reader);
        }
    }

    pub(super) fn close_writer(&mut self, pipe: u64) {
        let Some(state) = self.pipes.get_mut(&pipe) else { return };
        state.writable = false;
        let (reader, go_of, readable) = (state.reader, state.go_of, state.readable);
        if !readable {
            self.pipes.remove(&pipe);
        }
        self.changed(reader);
        if let Some(process) = go_of {
            self.go_came(process);
        }
    }

    pub(super) fn close_reader(&mut self, pipe: u64) {
        let Some(state) = self.pipes.get_mut(&pipe) else { return };
        state.readable = false;
        state.bytes.clear();
        if !state.writable {
            self.pipes.remove(&pipe);
        } else if let Some(unit) = state.output_of.clone().filter(|_| !self.over)
            // Whose number of a run came again: PID 1 keeps the pipes by it.
            && !self.checker.is_excused(&unit)
        {
            self.violated(format!("{unit}: nobody can read its output any more"));
        }
    }
}
