//! Stands for the crate `deno_crypto_provider` 0.54.0, of which `deno_crypto` calls [`x448`] and nothing else.
//!
//! The rest of that crate reads Netscape's SPKAC format for Node and links a second, older AWS-LC for it. Without
//! that one the program holds a single AWS-LC, and a first build compiles one less.
//! When `deno_crypto` moves to another version, check that this is still all it calls.

#![forbid(unsafe_code)]

/// The function X448 of RFC 7748, section 5.
pub mod x448 {
    use ed448_goldilocks::elliptic_curve::bigint::U448;
    use ed448_goldilocks::elliptic_curve::scalar::FromUintUnchecked;
    use ed448_goldilocks::{EdwardsScalar, MontgomeryPoint};

    /// The u-coordinate of the base point, RFC 7748 section 4.2, little-endian.
    pub const BASE_POINT: [u8; 56] = {
        let mut five = [0; 56];
        five[0] = 5;
        five
    };

    /// Multiplies the point with u-coordinate `u` by the scalar `k`, both little-endian as the RFC encodes them.
    ///
    /// `k` is clamped first: multiples of 4 whose highest bit is set. A clamped scalar is larger than the order of
    /// the group, and the RFC multiplies by it as it is, so it must not be reduced.
    #[must_use]
    pub fn x448(k: &[u8; 56], u: &[u8; 56]) -> [u8; 56] {
        let mut clamped = *k;
        clamped[0] &= 0b1111_1100;
        clamped[55] |= 0b1000_0000;
        let scalar = EdwardsScalar::from_uint_unchecked(U448::from_le_slice(&clamped));
        let product: MontgomeryPoint = &MontgomeryPoint(*u) * &scalar;
        product.0
    }
}
