//! A private key in a session: the one place where single-part operations are carried out.
//!
//! A key with `CKA_ALWAYS_AUTHENTICATE` wants `C_Login(CKU_CONTEXT_SPECIFIC)` between Init and the operation, each
//! time (PKCS #11 2.40 4.9).

use cryptoki::{error::RvError, mechanism::Mechanism, session::Session};
use zeroize::Zeroizing;

use crate::{
    PoolError,
    call::CallError,
    index::KeyObject,
    login::{LoginError, LoginGate},
    raw::Raw,
    session::OpenSession,
};

/// A private key of a token, with the session it is used in.
#[derive(Clone, Copy)]
pub(crate) struct PrivateKey<'a> {
    /// Where the PIN comes from for a key that wants it at every use.
    pub(crate) gate: Option<&'a LoginGate>,
    pub(crate) session: &'a OpenSession,
    pub(crate) object: KeyObject,
}

/// Why an operation gave nothing.
#[derive(Debug)]
pub(crate) enum OperationError {
    /// The key, or the token, cannot do this at all.
    Unsupported(String),
    /// The token refused the PIN that this key wants at every use.
    Refused(PoolError),
    /// A call failed.
    Call(CallError),
}

impl From<CallError> for OperationError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl PrivateKey<'_> {
    /// Signs in one part. `expected` is the usual length of the signature.
    pub(crate) fn sign(
        &self,
        mechanism: &Mechanism<'_>,
        data: &[u8],
        expected: usize,
    ) -> Result<Vec<u8>, OperationError> {
        let (session, handle) = (self.session.get()?, self.object.handle);
        let Some(raw) = self.raw(session)? else {
            return Ok(session.sign(mechanism, handle, data).map_err(CallError::from)?);
        };
        session.sign_init(mechanism, handle).map_err(CallError::from)?;
        // Of no use is a signature, but with it the operation ends, or fails for want of a login.
        self.authenticate(|| raw.sign(session, data, expected).map(drop))?;
        Ok(raw.sign(session, data, expected).map(|signature| signature.to_vec())?)
    }

    /// Decrypts in one part. `expected` is the greatest length of the plaintext.
    pub(crate) fn decrypt(
        &self,
        mechanism: &Mechanism<'_>,
        ciphertext: &[u8],
        expected: usize,
    ) -> Result<Zeroizing<Vec<u8>>, OperationError> {
        let (session, handle) = (self.session.get()?, self.object.handle);
        let Some(raw) = self.raw(session)? else {
            let plaintext = session.decrypt(mechanism, handle, ciphertext).map_err(CallError::from)?;
            return Ok(Zeroizing::new(plaintext));
        };
        session.decrypt_init(mechanism, handle).map_err(CallError::from)?;
        self.authenticate(|| raw.decrypt(session, ciphertext, expected).map(drop))?;
        Ok(raw.decrypt(session, ciphertext, expected)?)
    }

    /// Logs in for the operation that has been initialised, if the key wants that. Where it fails, `finish`
    /// ends the operation: the session is needed for others.
    fn authenticate(&self, finish: impl FnOnce() -> Result<(), CallError>) -> Result<(), OperationError> {
        if !self.object.always_authenticate {
            return Ok(());
        }
        let authenticated = match self.gate {
            Some(gate) => match gate.authenticate(self.session) {
                Ok(()) => Ok(()),
                // opencryptoki's soft token keeps the attribute and knows no such login. A token that does want
                // one tells in the operation itself.
                Err(LoginError::Call(error)) if error.rv() == Some(RvError::UserTypeInvalid) => Ok(()),
                Err(LoginError::Refused(reason)) => Err(OperationError::Refused(reason)),
                Err(LoginError::Call(error)) => Err(OperationError::Call(error)),
            },
            None => Err(OperationError::Unsupported("this without the PIN for each use".to_owned())),
        };
        if authenticated.is_err() {
            let _ = finish();
        }
        authenticated
    }

    /// The direct functions. Without them, keys that want the PIN at every use cannot be used.
    fn raw(&self, session: &Session) -> Result<Option<&Raw>, OperationError> {
        match self.session.module().raw(session) {
            None if self.object.always_authenticate => Err(OperationError::Unsupported(
                "anything: the token wants the PIN at every use (CKA_ALWAYS_AUTHENTICATE), and its module \
                 gives a session to one caller only"
                    .to_owned(),
            )),
            raw => Ok(raw),
        }
    }
}
