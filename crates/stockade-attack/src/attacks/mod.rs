//! What is tried, one file per family.

mod bombs;
mod clocks;
mod crashes;
mod descriptors;
mod devices;
mod filesystem;
mod filters;
mod limits;
mod memory;
mod namespaces;
mod network;
mod privileges;
mod processes;
mod secrets;

use crate::attack::Attack;

/// Everything that is tried, in the order of its index.
pub fn attacks() -> impl Iterator<Item = &'static Attack> {
    FAMILIES.iter().copied().flatten()
}

/// The attempt of this index.
pub(crate) fn attack_at(index: usize) -> Option<&'static Attack> {
    attacks().nth(index)
}

static FAMILIES: &[&[Attack]] = &[
    filesystem::ATTACKS,
    descriptors::ATTACKS,
    secrets::ATTACKS,
    processes::ATTACKS,
    namespaces::ATTACKS,
    memory::ATTACKS,
    filters::ATTACKS,
    devices::ATTACKS,
    network::ATTACKS,
    privileges::ATTACKS,
    bombs::ATTACKS,
    crashes::ATTACKS,
    limits::ATTACKS,
    clocks::ATTACKS,
];

#[cfg(test)]
mod tests;
