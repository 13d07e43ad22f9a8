//! An assembler for classic BPF that works backwards, from the end of the program.

use libc::sock_filter;

pub(super) const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
pub(super) const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
pub(super) const ALWAYS: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
pub(super) const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
pub(super) const GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
pub(super) const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
pub(super) const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Maximum distance of a conditional jump.
const REACH: usize = u8::MAX as usize;

/// An instruction of a [`Program`], counted from the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// The instructions so far, the last one first.
#[derive(Default)]
pub(super) struct Program {
    steps: Vec<sock_filter>,
    /// The most recent `return` of each value.
    returns: Vec<(u32, Label)>,
}

impl Program {
    fn push(&mut self, step: sock_filter) -> Label {
        self.steps.push(step);
        Label(self.steps.len() - 1)
    }

    /// The number of instructions that the next one has to skip to reach `to`.
    fn distance(&self, to: Label) -> usize {
        self.steps.len().saturating_sub(to.0 + 1)
    }

    /// `to` itself, or a jump to it, so that a conditional jump can reach it even with one more
    /// instruction in between.
    fn near(&mut self, to: Label) -> Label {
        match self.distance(to) {
            ..REACH => to,
            _ => self.jump(to),
        }
    }

    fn jump(&mut self, to: Label) -> Label {
        let k = self.distance(to) as u32;
        self.push(sock_filter { code: ALWAYS, jt: 0, jf: 0, k })
    }

    /// An instruction that continues at `next`.
    fn straight(&mut self, code: u16, k: u32, next: Label) -> Label {
        if self.distance(next) > 0 {
            self.jump(next);
        }
        self.push(sock_filter { code, jt: 0, jf: 0, k })
    }

    /// Returns a value.
    pub(super) fn ret(&mut self, value: u32) -> Label {
        let known = self.returns.iter().find(|(of, _)| *of == value).map(|(_, label)| *label);
        // A distant one would soon need an extra jump for each use.
        if let Some(label) = known.filter(|label| self.distance(*label) < REACH / 2) {
            return label;
        }
        let label = self.push(sock_filter { code: RETURN, jt: 0, jf: 0, k: value });
        self.returns.retain(|(of, _)| *of != value);
        self.returns.push((value, label));
        label
    }

    /// Loads a word of the call's data.
    pub(super) fn load(&mut self, word: u32, next: Label) -> Label {
        self.straight(LOAD, word, next)
    }

    /// Masks the accumulator.
    pub(super) fn and(&mut self, mask: u32, next: Label) -> Label {
        self.straight(AND, mask, next)
    }

    /// Continues at `then` if the accumulator compares as `code` with `k`, otherwise at `otherwise`.
    pub(super) fn branch(&mut self, code: u16, k: u32, then: Label, otherwise: Label) -> Label {
        // A jump added for the second target is the one instruction that `near` leaves room for.
        let then = self.near(then);
        let otherwise = self.near(otherwise);
        let far = |to| u8::try_from(self.distance(to)).unwrap_or(u8::MAX);
        let (jt, jf) = (far(then), far(otherwise));
        self.push(sock_filter { code, jt, jf, k })
    }

    /// Like [`Program::branch`] with `word` in the accumulator: a target that begins by loading the
    /// same word is entered after the load.
    pub(super) fn branch_on(
        &mut self,
        word: u32,
        code: u16,
        k: u32,
        then: Label,
        otherwise: Label,
    ) -> Label {
        let [then, otherwise] = [then, otherwise].map(|to| match self.steps.get(to.0) {
            Some(step) if step.code == LOAD && step.k == word => Label(to.0.saturating_sub(1)),
            _ => to,
        });
        self.branch(code, k, then, otherwise)
    }

    /// The finished program, which begins at `begin`.
    pub(super) fn finish(mut self, begin: Label) -> Vec<sock_filter> {
        if self.distance(begin) > 0 {
            self.jump(begin);
        }
        self.steps.reverse();
        self.steps
    }
}
