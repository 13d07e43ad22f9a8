//! Classic BPF (kernel `Documentation/networking/filter.rst`): an assembler and an interpreter for
//! the instructions that seccomp filters use.
//!
//! The assembler works backwards, from the end of the program: jumps lead forward only, so their
//! targets exist already, and equal results can share one `return`. Jumps that are too long for a
//! conditional instruction are split.

use libc::sock_filter;

/// `BPF_LD | BPF_W | BPF_ABS`: loads the word at offset `k` into the accumulator.
pub const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
/// `BPF_ALU | BPF_AND | BPF_K`: masks the accumulator with `k`.
pub const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
/// `BPF_JMP | BPF_JA`: skips `k` instructions.
pub const ALWAYS: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
/// `BPF_JMP | BPF_JEQ | BPF_K`: branches on whether the accumulator equals `k`.
pub const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
/// `BPF_JMP | BPF_JGT | BPF_K`: branches on whether the accumulator is greater than `k`.
pub const GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
/// `BPF_JMP | BPF_JGE | BPF_K`: branches on whether the accumulator is at least `k`.
pub const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
/// `BPF_JMP | BPF_JSET | BPF_K`: branches on whether the accumulator and `k` have a bit in common.
pub const ANY_OF: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
/// `BPF_RET | BPF_K`: returns `k`.
pub const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Maximum distance of a conditional jump.
const REACH: usize = u8::MAX as usize;

/// An instruction of a [`Program`], counted from the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(usize);

/// A program under construction: the instructions so far, the last one first.
#[derive(Debug, Default)]
pub struct Program {
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
    pub fn ret(&mut self, value: u32) -> Label {
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

    /// Loads the word at this offset of the input data.
    pub fn load(&mut self, word: u32, next: Label) -> Label {
        self.straight(LOAD, word, next)
    }

    /// Masks the accumulator.
    pub fn and(&mut self, mask: u32, next: Label) -> Label {
        self.straight(AND, mask, next)
    }

    /// Continues at `then` if the accumulator compares as `code` with `k`, otherwise at
    /// `otherwise`.
    pub fn branch(&mut self, code: u16, k: u32, then: Label, otherwise: Label) -> Label {
        // A jump added for the second target is the one instruction that `near` leaves room for.
        let then = self.near(then);
        let otherwise = self.near(otherwise);
        let far = |to| u8::try_from(self.distance(to)).unwrap_or(u8::MAX);
        let (jt, jf) = (far(then), far(otherwise));
        self.push(sock_filter { code, jt, jf, k })
    }

    /// Like [`Program::branch`] with `word` in the accumulator: a target that begins by loading the
    /// same word is entered after the load.
    pub fn branch_on(
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
    pub fn finish(mut self, begin: Label) -> Vec<sock_filter> {
        if self.distance(begin) > 0 {
            self.jump(begin);
        }
        self.steps.reverse();
        self.steps
    }
}

/// Interprets a program as the kernel does (net/core/filter.c), for the instructions of this
/// module. Input words are in native byte order, as for seccomp filters. `None`: another
/// instruction, a load outside the data, or no `return`.
pub fn run(program: &[sock_filter], data: &[u8]) -> Option<u32> {
    let (mut at, mut accumulator) = (0usize, 0u32);
    loop {
        let sock_filter { code, jt, jf, k } = *program.get(at)?;
        at += 1;
        let over = |holds: bool| usize::from(if holds { jt } else { jf });
        match code {
            LOAD => {
                let word = data.get(k as usize..)?.first_chunk()?;
                accumulator = u32::from_ne_bytes(*word);
            }
            AND => accumulator &= k,
            ALWAYS => at = at.checked_add(k as usize)?,
            EQUAL => at += over(accumulator == k),
            GREATER => at += over(accumulator > k),
            AT_LEAST => at += over(accumulator >= k),
            ANY_OF => at += over(accumulator & k != 0),
            RETURN => return Some(k),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_lead_to_their_targets_over_any_distance() {
        let mut program = Program::default();
        let mut next = program.ret(9999);
        for number in (0..1000).rev() {
            let found = program.ret(number);
            next = program.branch(EQUAL, number * 2, found, next);
        }
        let begin = program.load(4, next);
        let program = program.finish(begin);
        for value in 0u32..2002 {
            let data = [0, value].map(u32::to_ne_bytes).concat();
            let expected = if value % 2 == 0 && value < 2000 { value / 2 } else { 9999 };
            assert_eq!(run(&program, &data), Some(expected), "{value}");
        }
    }

    #[test]
    fn masks_and_bit_tests() {
        let mut program = Program::default();
        let (yes, no) = (program.ret(1), program.ret(0));
        let masked = program.branch(EQUAL, 0x10, yes, no);
        let masked = program.and(0xf0, masked);
        let begin = program.branch(ANY_OF, 0x3, yes, masked);
        let begin = program.load(0, begin);
        let program = program.finish(begin);
        let result = |value: u32| run(&program, &value.to_ne_bytes());
        assert_eq!([0, 1, 2, 0x14, 0x24].map(result), [0, 1, 1, 1, 0].map(Some));
    }

    #[test]
    fn an_invalid_program_or_short_data_has_no_result() {
        let mut program = Program::default();
        let end = program.ret(1);
        let begin = program.load(0, end);
        let program = program.finish(begin);
        assert_eq!(run(&program, &[0; 3]), None);
        assert_eq!(run(&program[..1], &[0; 4]), None);
        let unknown = [sock_filter { code: u16::MAX, jt: 0, jf: 0, k: 0 }];
        assert_eq!(run(&unknown, &[]), None);
    }
}
