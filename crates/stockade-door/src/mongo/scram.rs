//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the client's side.

use std::num::NonZeroU32;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use aws_lc_rs::{hmac, pbkdf2, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::Login;
use crate::server::ServerError;

/// Iterations that a server may ask for: fewer do not protect the password, more are hours of work.
const ITERATIONS: std::ops::RangeInclusive<u32> = 4096..=1_000_000;

/// Bytes of a nonce.
const NONCE: usize = 24;

/// A login that was begun.
pub(crate) struct Scram {
    nonce: String,
    first_bare: String,
    /// What the server must answer last.
    proof: Option<[u8; SHA256_OUTPUT_LEN]>,
}

impl Scram {
    /// A login, and the first message.
    ///
    /// # Errors
    /// When there are no random numbers, or the password is one that would have to be prepared (RFC 4013).
    pub(crate) fn new(login: &Login) -> Result<(Self, String), ServerError> {
        if !login
            .password
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~'))
        {
            return Err(ServerError::Method(
                "SCRAM-SHA-256 with a password that is not printable ASCII".to_owned(),
            ));
        }
        let mut nonce = [0; NONCE];
        rand::fill(&mut nonce).map_err(|_| ServerError::Protocol("there are no random numbers"))?;
        Ok(Self::with_nonce(&login.user, BASE64.encode(nonce)))
    }

    fn with_nonce(user: &str, nonce: String) -> (Self, String) {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let first_bare = format!("n={user},r={nonce}");
        let first = format!("n,,{first_bare}");
        let scram = Self {
            nonce,
            first_bare,
            proof: None,
        };
        (scram, first)
    }

    /// The second message, after the server's first one.
    ///
    /// # Errors
    /// When that is not as it should be.
    pub(crate) fn answer(&mut self, password: &str, server: &str) -> Result<String, ServerError> {
        let wrong = || ServerError::Protocol("a message of its login is not one of SCRAM");
        let field = |name: &str| {
            let mut fields = server.split(',');
            fields
                .find_map(|field| field.strip_prefix(name))
                .ok_or_else(wrong)
        };
        let nonce = field("r=")?;
        // The server goes on with our nonce: otherwise it replays another login.
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(wrong());
        }
        let salt = BASE64.decode(field("s=")?).map_err(|_| wrong())?;
        let iterations: u32 = field("i=")?.parse().map_err(|_| wrong())?;
        let iterations = NonZeroU32::new(iterations).filter(|n| ITERATIONS.contains(&n.get()));
        let iterations = iterations.ok_or(ServerError::Protocol(
            "its login asks for fewer than 4,096 or more than 1,000,000 iterations",
        ))?;

        let mut salted = [0; SHA256_OUTPUT_LEN];
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::derive(
            algorithm,
            iterations,
            &salt,
            password.as_bytes(),
            &mut salted,
        );
        let client_key = sign(&salted, b"Client Key");
        let stored_key = digest(&SHA256, &client_key);
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{},{server},{without_proof}", self.first_bare);
        let mut proof = sign(stored_key.as_ref(), signed.as_bytes());
        for (byte, key) in proof.iter_mut().zip(client_key) {
            *byte ^= key;
        }
        let server_key = sign(&salted, b"Server Key");
        self.proof = Some(sign(&server_key, signed.as_bytes()));
        Ok(format!("{without_proof},p={}", BASE64.encode(proof)))
    }

    /// Checks the server's last message: it proves that the server knows the password too.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn finish(&self, server: &str) -> Result<(), ServerError> {
        let given = server.strip_prefix("v=");
        let given = given.and_then(|given| BASE64.decode(given).ok());
        match (&self.proof, given) {
            (Some(proof), Some(given)) if given == proof => Ok(()),
            _ => Err(ServerError::Protocol(
                "it did not prove that it knows the password",
            )),
        }
    }
}

fn sign(key: &[u8], data: &[u8]) -> [u8; SHA256_OUTPUT_LEN] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut signature = [0; SHA256_OUTPUT_LEN];
    signature.copy_from_slice(hmac::sign(&key, data).as_ref());
    signature
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    #[test]
    fn login_is_that_of_rfc_7677() {
        let nonce = "rOprNGfwEbeRWgbNEkqO".to_owned();
        let (mut scram, first) = Scram::with_nonce("user", nonce);
        assert_eq!(first, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let second = scram.answer("pencil", SERVER).unwrap();
        let expected = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(second, expected);
        scram
            .finish("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
            .unwrap();
        for wrong in [
            "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G8=",
            "v=",
            "e=no",
            "",
        ] {
            scram.finish(wrong).unwrap_err();
        }
    }

    #[test]
    fn login_with_another_nonce_or_few_iterations_is_refused() {
        for wrong in [
            SERVER.replace("r=rO", "r=rX"),
            SERVER.replace("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", ""),
            SERVER.replace("i=4096", "i=4095"),
            SERVER.replace("i=4096", "i=4000000000"),
            SERVER.replace("s=W22", "s=!"),
            String::new(),
        ] {
            let (mut scram, _) = Scram::with_nonce("user", "rOprNGfwEbeRWgbNEkqO".to_owned());
            scram.answer("pencil", &wrong).unwrap_err();
        }
        let (_, first) = Scram::with_nonce("a=b,c", "n".to_owned());
        assert_eq!(first, "n,,n=a=3Db=2Cc,r=n");
    }
}
