//! From rules to programs for the kernel.

use std::sync::OnceLock;

use seccompiler::{BpfMap, BpfProgram, TargetArch, sock_filter};

use super::LAYER;
use super::rules::{ALLOW, PROCESS_ID, native, rules};
use crate::JailError;
use crate::spec::Wx;

/// Classes and modes of linux/bpf_common.h.
const JUMP: u16 = 0x05;
const RETURN_CONSTANT: u16 = 0x06;
const JUMP_IF_EQUAL_CONSTANT: u16 = 0x15;

/// The action that stands in the rules for [`libc::SECCOMP_RET_USER_NOTIF`], which `seccompiler` does not
/// know.
const STAND_IN: u32 = libc::SECCOMP_RET_TRACE | 1;

/// Compiled rules, ready except for the id of the process that they are for.
#[derive(Debug, Clone)]
pub(crate) struct Filters {
    pub(super) program: BpfProgram,
}

/// The seccomp filters of workers, with or without files, compiled once: each clone has them in its memory.
pub(crate) fn filters(wx: Wx, files: bool) -> Result<&'static Filters, JailError> {
    static JIT: OnceLock<Filters> = OnceLock::new();
    static STRICT: OnceLock<Filters> = OnceLock::new();
    static FILES: OnceLock<Filters> = OnceLock::new();
    let cell = match (files, wx) {
        (true, _) => &FILES,
        (false, Wx::Jit) => &JIT,
        (false, Wx::Strict) => &STRICT,
    };
    if let Some(filters) = cell.get() {
        return Ok(filters);
    }
    let compiled = compile(wx, files)?;
    Ok(cell.get_or_init(|| compiled))
}

/// Compiles the rules of a mode, for a worker with or without files, for the architecture of this program.
pub(crate) fn compile(wx: Wx, files: bool) -> Result<Filters, JailError> {
    native()
        .and_then(|arch| compile_for(wx, files, arch))
        .map_err(|what| {
            JailError::new(
                LAYER,
                format!("the rules could not be compiled: {what}"),
                format!("rules of wx {wx:?} on {}", std::env::consts::ARCH),
                "Stockade knows x86_64 and aarch64; elsewhere choose isolation: thread",
            )
        })
}

pub(super) fn compile_for(wx: Wx, files: bool, arch: TargetArch) -> Result<Filters, String> {
    let json = serde_json::to_vec(&rules(wx, files, arch)?).map_err(|error| error.to_string())?;
    let mut programs: BpfMap =
        seccompiler::compile_from_json(json.as_slice(), arch).map_err(|error| error.to_string())?;
    let mut allow = programs
        .remove(ALLOW)
        .ok_or_else(|| format!("there is no section \"{ALLOW}\""))?;
    if replace(
        &mut allow,
        RETURN_CONSTANT,
        STAND_IN,
        libc::SECCOMP_RET_USER_NOTIF,
    ) == 0
    {
        return Err("what is not allowed would not reach the supervisor".to_owned());
    }
    // In the order of their names, so that equal rules make equal programs.
    let mut refuse: Vec<_> = programs.into_iter().collect();
    refuse.sort_by(|one, other| one.0.cmp(&other.0));
    let mut program = BpfProgram::new();
    for (_, section) in refuse {
        program.extend(go_on(section)?);
    }
    program.extend(allow);
    Ok(Filters { program })
}

impl Filters {
    /// The program for the process with this id.
    pub(super) fn fit(&self, process: u32) -> Result<BpfProgram, String> {
        let mut program = self.program.clone();
        match replace(&mut program, JUMP_IF_EQUAL_CONSTANT, PROCESS_ID, process) {
            0 => Err("no rule names the process itself".to_owned()),
            _ => Ok(program),
        }
    }
}

/// Has what a section does not match go on to the program that follows it.
///
/// The kernel would run several filters one after the other, for every call; one program costs less, and is
/// in force at once or not at all.
fn go_on(mut section: BpfProgram) -> Result<BpfProgram, String> {
    let end = section.len();
    for (at, instruction) in section.iter_mut().enumerate() {
        if instruction.code == RETURN_CONSTANT && instruction.k == libc::SECCOMP_RET_ALLOW {
            let rest = u32::try_from(end - at - 1).map_err(|error| error.to_string())?;
            *instruction = sock_filter {
                code: JUMP,
                jt: 0,
                jf: 0,
                k: rest,
            };
        }
    }
    Ok(section)
}

/// Replaces the constant of all instructions that have this code and constant; returns how many.
fn replace(program: &mut BpfProgram, code: u16, before: u32, after: u32) -> usize {
    let found = program
        .iter_mut()
        .filter(|instruction| instruction.code == code && instruction.k == before);
    found.map(|instruction| instruction.k = after).count()
}
