//! What needs `unsafe`: the seed of hash maps, and the allocator.

mod freed;
mod seed;

pub(crate) use seed::fix_hash_maps;
