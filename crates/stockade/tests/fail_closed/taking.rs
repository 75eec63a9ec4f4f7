//! Takes system calls away for real: a seccomp filter over this process, which then becomes another program.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// A call that fails with this error number.
#[derive(Clone, Copy)]
pub(crate) struct Deny {
    pub(crate) number: i64,
    pub(crate) when: When,
    pub(crate) errno: i32,
}

/// For which arguments it does.
#[derive(Clone, Copy)]
pub(crate) enum When {
    Always,
    /// The argument of this index is this number.
    Is(u8, u64),
    /// The argument of this index has all these bits.
    Has(u8, u64),
    /// The argument of this index is not 0.
    Some(u8),
}

/// Becomes this program, without those calls.
pub(crate) fn become_without(denied: &[Deny], program: &[String]) -> ! {
    // One filter for each: an answer belongs to a filter. seccomp(2) itself comes last in its case.
    for deny in denied {
        seccompiler::apply_filter(&filter(deny)).unwrap();
    }
    let error = Command::new(&program[0]).args(&program[1..]).exec();
    panic!("{}: {error}", program[0]);
}

fn filter(deny: &Deny) -> BpfProgram {
    let condition = |index, op, value| {
        let condition = SeccompCondition::new(index, SeccompCmpArgLen::Qword, op, value).unwrap();
        vec![SeccompRule::new(vec![condition]).unwrap()]
    };
    let rules = match deny.when {
        When::Always => Vec::new(),
        When::Is(index, number) => condition(index, SeccompCmpOp::Eq, number),
        When::Has(index, bits) => condition(index, SeccompCmpOp::MaskedEq(bits), bits),
        When::Some(index) => condition(index, SeccompCmpOp::Ne, 0),
    };
    let arch: TargetArch = std::env::consts::ARCH.try_into().unwrap();
    SeccompFilter::new(
        BTreeMap::from([(deny.number, rules)]),
        SeccompAction::Allow,
        SeccompAction::Errno(deny.errno.cast_unsigned()),
        arch,
    )
    .unwrap()
    .try_into()
    .unwrap()
}
