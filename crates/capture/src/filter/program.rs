//! A classic BPF program that was checked, and the machine that runs it.
//!
//! The compiler that makes the programs is another project's, so each program is checked before it
//! runs: opcodes are known, jumps stay inside, scratch cells exist, no constant divisor is 0, and
//! the last instruction returns. A load beyond the frame ends the program without a match, as in
//! libpcap and in the kernel.

/// Cells of scratch memory.
const SCRATCH: usize = 16;

/// Loads from here on, for 64 bytes, read what only the kernel knows of a frame (`SKF_AD_OFF`).
const KERNEL: u32 = 0xffff_f000;
const KERNEL_END: u32 = KERNEL + 64;

/// An instruction as the compiler writes it: C's `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    /// How many instructions to skip when the test holds.
    pub(super) yes: u8,
    /// The same when it does not.
    pub(super) no: u8,
    pub(super) k: u32,
}

/// Why a program is not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProgramError {
    #[error("instruction {0} is unknown")]
    Unknown(usize),
    #[error("instruction {0} jumps out of the program")]
    Jump(usize),
    #[error("instruction {0} uses scratch memory that does not exist")]
    Scratch(usize),
    #[error("instruction {0} divides by zero")]
    Division(usize),
    #[error("its last instruction does not return")]
    NoReturn,
    #[error(
        "'inbound', 'outbound' and 'ifindex' ask for what only the kernel knows of its own frames"
    )]
    Kernel,
}

/// A checked instruction. Jumps name the instruction that follows.
#[derive(Debug, Clone, Copy)]
enum Op {
    /// The accumulator takes this.
    Load(Source),
    /// The index register takes this.
    LoadIndex(Source),
    Store(u8),
    StoreIndex(u8),
    Calculate(Operation, Operand),
    Negate,
    Jump(u32),
    /// A jump to an earlier instruction: libpcap follows a chain of IPv6 headers by a loop.
    JumpBack(u32),
    Branch(Test, Operand, u32, u32),
    Return(u32),
    ReturnAccumulator,
    IndexToAccumulator,
    AccumulatorToIndex,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    Constant(u32),
    /// Bytes of the frame at a place, and at the index register beyond it.
    At(Width, u32),
    Indexed(Width, u32),
    Scratch(u8),
    /// Bytes of the frame on the wire.
    Length,
    /// The length in bytes of an IPv4 header whose first byte is here.
    HeaderLength(u32),
}

#[derive(Debug, Clone, Copy)]
enum Width {
    Word,
    Half,
    Byte,
}

#[derive(Debug, Clone, Copy)]
enum Operand {
    Constant(u32),
    Index,
}

#[derive(Debug, Clone, Copy)]
enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Or,
    And,
    Xor,
    ShiftLeft,
    ShiftRight,
}

#[derive(Debug, Clone, Copy)]
enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
    AnyBit,
}

/// A program that was checked.
#[derive(Debug, Clone)]
pub(super) struct Program(Box<[Op]>);

impl Program {
    /// Checks a program.
    pub(super) fn check(instructions: &[Instruction]) -> Result<Self, ProgramError> {
        let len = instructions.len();
        let check = |(at, instruction)| check(at, instruction, len);
        let ops =
            instructions.iter().copied().enumerate().map(check).collect::<Result<Box<[_]>, _>>()?;
        match ops.last() {
            Some(Op::Return(_) | Op::ReturnAccumulator) => Ok(Self(ops)),
            _ => Err(ProgramError::NoReturn),
        }
    }

    /// Runs the program on a frame and returns its result: how many bytes of the frame to keep,
    /// where 0 is no match. `length` is that of the frame on the wire.
    ///
    /// It ends: it goes back at most once for each byte of the frame. libpcap's loops advance by
    /// eight bytes each time.
    pub(super) fn run(&self, frame: &[u8], length: u32) -> u32 {
        let (mut a, mut x, mut scratch) = (0_u32, 0_u32, [0_u32; SCRATCH]);
        let mut backs = frame.len();
        let mut next = 0;
        // The last instruction returns, so `get` finds an instruction. It saves the panic.
        while let Some(op) = self.0.get(next) {
            next += 1;
            match *op {
                Op::Load(source) => match source.read(frame, length, x, &scratch) {
                    Some(value) => a = value,
                    None => return 0,
                },
                Op::LoadIndex(source) => match source.read(frame, length, x, &scratch) {
                    Some(value) => x = value,
                    None => return 0,
                },
                Op::Store(cell) => scratch[usize::from(cell) % SCRATCH] = a,
                Op::StoreIndex(cell) => scratch[usize::from(cell) % SCRATCH] = x,
                Op::Calculate(operation, operand) => match operation.apply(a, operand.value(x)) {
                    Some(value) => a = value,
                    None => return 0,
                },
                Op::Negate => a = a.wrapping_neg(),
                Op::Jump(to) => next = to as usize,
                Op::JumpBack(to) => {
                    if backs == 0 {
                        return 0;
                    }
                    backs -= 1;
                    next = to as usize;
                }
                Op::Branch(test, operand, yes, no) => {
                    next = if test.holds(a, operand.value(x)) { yes } else { no } as usize;
                }
                Op::Return(value) => return value,
                Op::ReturnAccumulator => return a,
                Op::IndexToAccumulator => a = x,
                Op::AccumulatorToIndex => x = a,
            }
        }
        0
    }
}

impl Source {
    #[inline]
    fn read(self, frame: &[u8], length: u32, x: u32, scratch: &[u32; SCRATCH]) -> Option<u32> {
        match self {
            Self::Constant(value) => Some(value),
            Self::At(width, at) => width.read(frame, at as usize),
            // In 64 bits: the sum does not wrap.
            Self::Indexed(width, at) => width.read(frame, at as usize + x as usize),
            Self::Scratch(cell) => Some(scratch[usize::from(cell) % SCRATCH]),
            Self::Length => Some(length),
            Self::HeaderLength(at) => frame.get(at as usize).map(|byte| u32::from(byte & 15) * 4),
        }
    }
}

impl Width {
    #[inline]
    fn read(self, frame: &[u8], at: usize) -> Option<u32> {
        let bytes = frame.get(at..)?;
        match self {
            Self::Word => bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)),
            Self::Half => bytes.first_chunk().map(|bytes| u16::from_be_bytes(*bytes).into()),
            Self::Byte => bytes.first().map(|byte| u32::from(*byte)),
        }
    }
}

impl Operand {
    #[inline]
    fn value(self, x: u32) -> u32 {
        match self {
            Self::Constant(value) => value,
            Self::Index => x,
        }
    }
}

impl Operation {
    /// Returns the result; `None` for a division by zero, which ends the program.
    #[inline]
    fn apply(self, a: u32, operand: u32) -> Option<u32> {
        Some(match self {
            Self::Add => a.wrapping_add(operand),
            Self::Subtract => a.wrapping_sub(operand),
            Self::Multiply => a.wrapping_mul(operand),
            Self::Divide => return a.checked_div(operand),
            Self::Modulo => return a.checked_rem(operand),
            Self::Or => a | operand,
            Self::And => a & operand,
            Self::Xor => a ^ operand,
            Self::ShiftLeft => a.checked_shl(operand).unwrap_or(0),
            Self::ShiftRight => a.checked_shr(operand).unwrap_or(0),
        })
    }
}

impl Test {
    #[inline]
    fn holds(self, a: u32, operand: u32) -> bool {
        match self {
            Self::Equal => a == operand,
            Self::Greater => a > operand,
            Self::GreaterOrEqual => a >= operand,
            Self::AnyBit => a & operand != 0,
        }
    }
}

/// Checks the instruction at `at` in a program of `len`. Opcodes are those of bpf(4).
fn check(at: usize, instruction: Instruction, len: usize) -> Result<Op, ProgramError> {
    let Instruction { code, yes, no, k } = instruction;
    let cell = || match u8::try_from(k) {
        Ok(cell) if usize::from(cell) < SCRATCH => Ok(cell),
        _ => Err(ProgramError::Scratch(at)),
    };
    let target = |target: usize| match u32::try_from(target) {
        Ok(to) if target < len => Ok(to),
        _ => Err(ProgramError::Jump(at)),
    };
    let operand = if code & 0x08 == 0 { Operand::Constant(k) } else { Operand::Index };
    Ok(match code {
        0x00 => Op::Load(Source::Constant(k)),
        0x01 => Op::LoadIndex(Source::Constant(k)),
        0x20 | 0x28 | 0x30 if (KERNEL..KERNEL_END).contains(&k) => {
            return Err(ProgramError::Kernel);
        }
        0x20 => Op::Load(Source::At(Width::Word, k)),
        0x28 => Op::Load(Source::At(Width::Half, k)),
        0x30 => Op::Load(Source::At(Width::Byte, k)),
        0x40 => Op::Load(Source::Indexed(Width::Word, k)),
        0x48 => Op::Load(Source::Indexed(Width::Half, k)),
        0x50 => Op::Load(Source::Indexed(Width::Byte, k)),
        0x60 => Op::Load(Source::Scratch(cell()?)),
        0x61 => Op::LoadIndex(Source::Scratch(cell()?)),
        0x80 => Op::Load(Source::Length),
        0x81 => Op::LoadIndex(Source::Length),
        0xb1 => Op::LoadIndex(Source::HeaderLength(k)),
        0x02 => Op::Store(cell()?),
        0x03 => Op::StoreIndex(cell()?),
        0x84 => Op::Negate,
        0x05 => {
            // Signed: the one instruction that may go back.
            let offset = isize::try_from(k.cast_signed()).unwrap_or(isize::MAX);
            let to = (at + 1).checked_add_signed(offset).ok_or(ProgramError::Jump(at))?;
            if to > at { Op::Jump(target(to)?) } else { Op::JumpBack(target(to)?) }
        }
        0x06 => Op::Return(k),
        0x16 => Op::ReturnAccumulator,
        0x07 => Op::AccumulatorToIndex,
        0x87 => Op::IndexToAccumulator,
        _ if code & 0x07 == 0x04 => {
            let operation = match code & !0x0f {
                0x00 => Operation::Add,
                0x10 => Operation::Subtract,
                0x20 => Operation::Multiply,
                0x30 => Operation::Divide,
                0x40 => Operation::Or,
                0x50 => Operation::And,
                0x60 => Operation::ShiftLeft,
                0x70 => Operation::ShiftRight,
                0x90 => Operation::Modulo,
                0xa0 => Operation::Xor,
                _ => return Err(ProgramError::Unknown(at)),
            };
            let divides = matches!(operation, Operation::Divide | Operation::Modulo);
            if divides && matches!(operand, Operand::Constant(0)) {
                return Err(ProgramError::Division(at));
            }
            Op::Calculate(operation, operand)
        }
        _ if code & 0x07 == 0x05 => {
            let test = match code & !0x0f {
                0x10 => Test::Equal,
                0x20 => Test::Greater,
                0x30 => Test::GreaterOrEqual,
                0x40 => Test::AnyBit,
                _ => return Err(ProgramError::Unknown(at)),
            };
            let [yes, no] = [yes, no].map(|skip| target(at + 1 + usize::from(skip)));
            Op::Branch(test, operand, yes?, no?)
        }
        _ => return Err(ProgramError::Unknown(at)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(code: u16, yes: u8, no: u8, k: u32) -> Instruction {
        Instruction { code, yes, no, k }
    }

    /// All opcodes that the machine knows.
    const OPCODES: [u16; 42] = [
        0x00, 0x01, 0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x60, 0x61, 0x80, 0x81, 0xb1, 0x02, 0x03,
        0x84, 0x05, 0x06, 0x16, 0x07, 0x87, 0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c, 0x44,
        0x4c, 0x54, 0x5c, 0x64, 0x6c, 0x94, 0x9c, 0xa4, 0x15, 0x1d, 0x25, 0x35,
    ];

    /// Runs unchecked instructions as bpf(4) describes them, word by word, in wide numbers.
    fn model(program: &[Instruction], frame: &[u8], length: u32) -> u32 {
        let mut scratch = [0_u64; SCRATCH];
        let (mut a, mut x, mut pc, mut backs) = (0_u64, 0_u64, 0_i64, frame.len());
        let bytes = |at: u64, count: u64| -> Option<u64> {
            (at + count <= frame.len() as u64).then(|| {
                (at..at + count)
                    .fold(0, |sum, at| sum * 256 + u64::from(frame[usize::try_from(at).unwrap()]))
            })
        };
        loop {
            let Instruction { code, yes, no, k } = program[usize::try_from(pc).unwrap()];
            pc += 1;
            let k = u64::from(k);
            let cell = usize::try_from(k).unwrap_or(0);
            let operand = if code & 8 == 0 { k } else { x };
            let size = match code & 0x18 {
                0x00 => 4,
                0x08 => 2,
                _ => 1,
            };
            // Class, then mode.
            match (code & 0x07, code & 0xe0) {
                (0, 0x00) => a = k,
                (0, 0x20) => match bytes(k, size) {
                    Some(value) => a = value,
                    None => return 0,
                },
                (0, 0x40) => match bytes(k + x, size) {
                    Some(value) => a = value,
                    None => return 0,
                },
                (0, 0x60) => a = scratch[cell],
                (0, _) => a = length.into(),
                (1, 0x00) => x = k,
                (1, 0x60) => x = scratch[cell],
                (1, 0x80) => x = length.into(),
                (1, _) => match bytes(k, 1) {
                    Some(value) => x = value % 16 * 4,
                    None => return 0,
                },
                (2, _) => scratch[cell] = a,
                (3, _) => scratch[cell] = x,
                (4, _) => {
                    a = match code & 0xf0 {
                        0x00 => a + operand,
                        0x10 => a + (1 << 32) - operand,
                        0x20 => a.wrapping_mul(operand),
                        0x30 | 0x90 if operand == 0 => return 0,
                        0x30 => a / operand,
                        0x90 => a % operand,
                        0x40 => a | operand,
                        0x50 => a & operand,
                        0xa0 => a ^ operand,
                        0x60 | 0x70 if operand > 31 => 0,
                        0x60 => a << operand,
                        0x70 => a >> operand,
                        _ => (1 << 32) - a,
                    } & 0xffff_ffff;
                }
                (5, _) if code & 0xf0 == 0 => {
                    let back = k >= 1 << 31;
                    if back && backs == 0 {
                        return 0;
                    }
                    backs -= usize::from(back);
                    pc += i64::try_from(k).unwrap() - if back { 1 << 32 } else { 0 };
                }
                (5, _) => {
                    let holds = match code & 0xf0 {
                        0x10 => a == operand,
                        0x20 => a > operand,
                        0x30 => a >= operand,
                        _ => a & operand > 0,
                    };
                    pc += i64::from(if holds { yes } else { no });
                }
                (6, _) => return u32::try_from(if code & 0x10 == 0 { k } else { a }).unwrap(),
                (_, 0x80) => a = x,
                _ => x = a,
            }
        }
    }

    /// Returns a program, most often a valid one.
    fn any_program(random: &mut fastrand::Rng) -> Vec<Instruction> {
        let len = random.usize(1..40);
        let mut program: Vec<_> = (0..len)
            .map(|at| {
                let left = u32::try_from(len - at).unwrap();
                let code = OPCODES[random.usize(..OPCODES.len())];
                let k = match code {
                    0x05 if random.u8(..4) == 0 => 0_u32.wrapping_sub(random.u32(..=3)),
                    0x05 => random.u32(..left),
                    0x02 | 0x03 | 0x60 | 0x61 => random.u32(..16),
                    0x34 | 0x94 => random.u32(1..9),
                    0x64 => random.u32(..40),
                    _ if random.u8(..4) == 0 => random.u32(..),
                    _ => random.u32(..24),
                };
                // A return ends most programs early.
                let code = if code & 7 == 6 && random.u8(..4) > 0 { 0x07 } else { code };
                let skip =
                    |random: &mut fastrand::Rng| u8::try_from(random.u32(..left.min(4))).unwrap();
                instruction(code, skip(random), skip(random), k)
            })
            .collect();
        program.push(instruction(if random.bool() { 0x16 } else { 0x06 }, 0, 0, 0x0004_0000));
        program
    }

    #[test]
    fn programs_do_what_the_manual_says() {
        let mut random = fastrand::Rng::with_seed(5);
        let (mut ran, mut matched) = (0, 0);
        for _ in 0..40_000 {
            let program = any_program(&mut random);
            let Ok(checked) = Program::check(&program) else { continue };
            let len = random.usize(..64);
            let frame: Vec<u8> = (0..len).map(|_| random.u8(..) >> random.u8(..8)).collect();
            let length = random.u32(..100);
            let result = checked.run(&frame, length);
            assert_eq!(result, model(&program, &frame, length), "{program:?} on {frame:?}");
            ran += 1;
            matched += u32::from(result > 0);
        }
        assert!(ran > 20_000 && matched > 2_000, "{ran} ran, {matched} matched");
    }

    #[test]
    fn bad_programs_are_refused() {
        let check = |code, yes, no, k| {
            Program::check(&[instruction(code, yes, no, k), instruction(0x06, 0, 0, 1)])
                .map(|_| ())
                .unwrap_err()
        };
        assert_eq!(check(0x15, 0, 1, 0), ProgramError::Jump(0));
        assert_eq!(check(0x15, 1, 0, 0), ProgramError::Jump(0));
        assert_eq!(check(0x05, 0, 0, 1), ProgramError::Jump(0));
        assert_eq!(check(0x05, 0, 0, 0xffff_fffe), ProgramError::Jump(0));
        assert_eq!(check(0x02, 0, 0, 16), ProgramError::Scratch(0));
        assert_eq!(check(0x61, 0, 0, u32::MAX), ProgramError::Scratch(0));
        assert_eq!(check(0x34, 0, 0, 0), ProgramError::Division(0));
        assert_eq!(check(0x94, 0, 0, 0), ProgramError::Division(0));
        assert_eq!(check(0xff, 0, 0, 0), ProgramError::Unknown(0));
        assert_eq!(check(0x28, 0, 0, 0xffff_f004), ProgramError::Kernel);
        assert_eq!(Program::check(&[]).unwrap_err(), ProgramError::NoReturn);
        let falls_off = [instruction(0x07, 0, 0, 0)];
        assert_eq!(Program::check(&falls_off).unwrap_err(), ProgramError::NoReturn);
    }

    #[test]
    fn a_loop_ends() {
        let endless = [instruction(0x05, 0, 0, u32::MAX), instruction(0x06, 0, 0, 1)];
        assert_eq!(Program::check(&endless).unwrap().run(&[0; 1000], 1000), 0);
    }

    #[test]
    fn no_instructions_make_it_panic() {
        let mut random = fastrand::Rng::with_seed(6);
        for _ in 0..20_000 {
            let len = random.usize(..4);
            let mut any = |_| {
                let [code, yes, no] = [random.u8(..), random.u8(..4), random.u8(..4)];
                instruction(code.into(), yes, no, random.u32(..) >> random.u8(..32))
            };
            let mut program: Vec<_> = (0..len).map(&mut any).collect();
            program.push(instruction(0x16, 0, 0, 0));
            if let Ok(program) = Program::check(&program) {
                program.run(&[0x45; 40], 40);
            }
        }
    }
}
