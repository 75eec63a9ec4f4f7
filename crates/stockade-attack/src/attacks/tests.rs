use std::collections::{BTreeMap, BTreeSet};

use super::attacks;
use crate::controls::{controls, index_of};

/// Groups that make sense for native code; the others are tried from JavaScript, from the socket or
/// from outside.
const NATIVE: [u8; 34] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22, 23, 24, 25, 26, 27,
    28, 29, 32, 34, 35, 36, 37, 39,
];

#[test]
fn every_native_group_has_attempts() {
    let mut counts = BTreeMap::new();
    for attack in attacks() {
        *counts.entry(attack.group).or_insert(0) += 1;
    }
    // gates into the kernel and numbers of calls are tried where both are known
    let elsewhere = |group| cfg!(not(target_arch = "x86_64")) && matches!(group, 17 | 39);
    for group in NATIVE.into_iter().filter(|group| !elsewhere(*group)) {
        let count = counts.get(&group).copied().unwrap_or(0);
        assert!(count >= 3, "group {group} has {count} attempts");
    }
    assert!(attacks().count() >= 150);
}

#[test]
fn names_are_unique() {
    let mut names = BTreeSet::new();
    for attack in attacks() {
        assert!(names.insert(attack.name), "{} is there twice", attack.name);
    }
    let controls: BTreeSet<_> = controls().iter().map(|control| control.name).collect();
    assert_eq!(controls.len(), crate::controls().len());
}

#[test]
fn every_attempt_has_a_control() {
    for attack in attacks() {
        assert!(
            index_of(attack.control).is_some(),
            "{}: no control {}",
            attack.name,
            attack.control
        );
    }
}

#[test]
fn every_control_is_used() {
    for control in controls() {
        assert!(
            attacks().any(|attack| attack.control == control.name),
            "{} is used by none",
            control.name
        );
    }
}
