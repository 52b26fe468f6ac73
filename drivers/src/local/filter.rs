//! System calls that lead around namespaces: keys belong to the session that the server was started
//! in, the log is the whole kernel's, and some sockets reach the hypervisor or the kernel whatever the
//! network namespace. Builds a seccomp filter that makes them look as if the kernel did not have them; leaves the rest alone.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::jail::failure::{Doing, Result};

/// Where a call's architecture, number and first argument are in what a filter sees.
const ARCHITECTURE: u32 = 4;
const NUMBER: u32 = 0;
const FIRST_ARGUMENT: u32 = 16;

const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
const NO_SUCH_CALL: u32 = 0x0005_0000 | 38;
const NO_SUCH_FAMILY: u32 = 0x0005_0000 | 97;

/// Unix, IPv4, IPv6, netlink: the families that namespaces separate.
const FAMILIES: [u32; 4] = [1, 2, 10, 16];

/// The numbers of one architecture.
struct Calls {
    architecture: u32,
    /// Numbers from here on are a second set of the same calls.
    second_set: Option<u32>,
    socket: u32,
    socketpair: u32,
    /// `add_key`, `request_key`, `keyctl`, `bpf`, `perf_event_open`, `userfaultfd`,
    /// `open_by_handle_at`, `syslog` and the three of `io_uring`, which would open sockets unseen.
    refused: [u32; 11],
}

const X86_64: Calls = Calls {
    architecture: 0xc000_003e,
    second_set: Some(0x4000_0000),
    socket: 41,
    socketpair: 53,
    refused: [248, 249, 250, 321, 298, 323, 304, 103, 425, 426, 427],
};
const AARCH64: Calls = Calls {
    architecture: 0xc000_00b7,
    second_set: None,
    socket: 198,
    socketpair: 199,
    refused: [217, 218, 219, 280, 241, 282, 265, 116, 425, 426, 427],
};

/// Writes the filter where everybody can read it; `None` on an architecture without one.
pub(super) fn file(directory: &Path) -> Result<Option<PathBuf>> {
    let calls = match std::env::consts::ARCH {
        "x86_64" => X86_64,
        "aarch64" => AARCH64,
        _ => return Ok(None),
    };
    let program = program(&calls);
    let path = directory.join("seccomp.bpf");
    if fs::read(&path).is_ok_and(|written| written == program) {
        return Ok(Some(path));
    }
    fs::create_dir_all(directory).doing("create", directory)?;
    let draft = directory.join(format!("seccomp.{}", std::process::id()));
    fs::write(&draft, program).doing("write", &draft)?;
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o644)).doing("open up", &draft)?;
    fs::rename(&draft, &path).doing("write", &path)?;
    Ok(Some(path))
}

fn program(calls: &Calls) -> Vec<u8> {
    let mut program = Program::default();
    program.add(LOAD, ARCHITECTURE);
    // Programs of another architecture would have other numbers for the same calls.
    program.skip_if(1, JUMP_IF_EQUAL, calls.architecture);
    program.add(RETURN, NO_SUCH_CALL);
    program.add(LOAD, NUMBER);
    if let Some(first) = calls.second_set {
        program.do_next_if(JUMP_IF_AT_LEAST, first);
        program.add(RETURN, NO_SUCH_CALL);
    }
    for number in calls.refused {
        program.do_next_if(JUMP_IF_EQUAL, number);
        program.add(RETURN, NO_SUCH_CALL);
    }
    program.skip_if(2, JUMP_IF_EQUAL, calls.socket);
    program.skip_if(1, JUMP_IF_EQUAL, calls.socketpair);
    program.add(RETURN, ALLOW);
    program.add(LOAD, FIRST_ARGUMENT);
    for family in FAMILIES {
        program.do_next_if(JUMP_IF_EQUAL, family);
        program.add(RETURN, ALLOW);
    }
    program.add(RETURN, NO_SUCH_FAMILY);
    program.0
}

/// Instructions as the kernel reads them: code, two jumps, a value.
#[derive(Debug, Default)]
struct Program(Vec<u8>);

impl Program {
    fn add(&mut self, code: u16, value: u32) {
        self.jump(code, [0, 0], value);
    }

    fn do_next_if(&mut self, condition: u16, value: u32) {
        self.jump(condition, [0, 1], value);
    }

    fn skip_if(&mut self, n_skipped: u8, condition: u16, value: u32) {
        self.jump(condition, [n_skipped, 0], value);
    }

    fn jump(&mut self, code: u16, jumps: [u8; 2], value: u32) {
        self.0.extend(code.to_ne_bytes());
        self.0.extend(jumps);
        self.0.extend(value.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Does what the kernel does with a filter.
    fn answer(calls: &Calls, architecture: u32, number: u32, argument: u32) -> u32 {
        let program = program(calls);
        let instructions: Vec<_> = program.chunks(8).collect();
        let (mut at, mut loaded) = (0, 0);
        loop {
            let [a, b, then, otherwise, value @ ..] = instructions[at] else { unreachable!() };
            let value = u32::from_ne_bytes(value.try_into().unwrap());
            let jump = |condition: bool| usize::from(if condition { *then } else { *otherwise });
            at += 1;
            match u16::from_ne_bytes([*a, *b]) {
                LOAD if value == ARCHITECTURE => loaded = architecture,
                LOAD if value == NUMBER => loaded = number,
                LOAD => loaded = argument,
                JUMP_IF_EQUAL => at += jump(loaded == value),
                JUMP_IF_AT_LEAST => at += jump(loaded >= value),
                _ => return value,
            }
        }
    }

    #[test]
    fn the_filter_refuses_what_it_should_and_nothing_else() {
        for calls in [X86_64, AARCH64] {
            let native = |number, argument| answer(&calls, calls.architecture, number, argument);
            for refused in calls.refused {
                assert_eq!(native(refused, 0), NO_SUCH_CALL, "{refused}");
            }
            for number in [0, 1, 56, 57, 59, 220, 221, 435] {
                assert_eq!(native(number, 40), ALLOW, "{number}");
            }
            for (family, wanted) in [
                (1, ALLOW),
                (2, ALLOW),
                (10, ALLOW),
                (16, ALLOW),
                (17, NO_SUCH_FAMILY),
                (38, NO_SUCH_FAMILY),
                (40, NO_SUCH_FAMILY),
            ] {
                for call in [calls.socket, calls.socketpair] {
                    assert_eq!(native(call, family), wanted, "call {call}, family {family}");
                }
            }
            assert_eq!(answer(&calls, 0x4000_0003, 1, 0), NO_SUCH_CALL, "a 32-bit program");
        }
        assert_eq!(answer(&X86_64, X86_64.architecture, 0x4000_0029, 0), NO_SUCH_CALL);
    }
}
