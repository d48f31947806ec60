//! OCSP: one question for one certificate (RFC 6960 appendix A, RFC 5019).

use std::time::{Instant, SystemTime};

use certcache::Status;
use data_encoding::{BASE64, HEXLOWER};
use smime::{
    Certificate,
    key::ContentEncryptionKey,
    revocation::{OcspRequest, OcspResponse},
};

use super::{
    Fetcher, SKEW,
    http::{Fetched, Question},
};

/// What a responder answered.
pub(super) type Known = OcspResponse;

/// An answer of before.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) response: OcspResponse,
    /// Nobody need be asked.
    pub(super) is_current: bool,
    /// It says revoked, and that is for ever: it counts after its end as well.
    pub(super) is_final: bool,
}

impl Fetcher {
    /// What is kept of `certificate`.
    pub(super) fn kept_ocsp(&self, certificate: &Certificate, issuer: &Certificate) -> Option<Kept> {
        let kept = self.store.ocsp(certificate).and_then(|kept| OcspResponse::from_der(&kept.der).ok())?;
        let (_, until) = kept.validity_for(certificate, issuer)?;
        Some(Kept {
            is_current: SystemTime::now() <= until,
            is_final: kept.is_final_for(certificate, issuer),
            response: kept,
        })
    }

    /// What the responder at a URL says of `certificate` now.
    pub(super) fn ocsp(
        &self,
        url: &str,
        certificate: &Certificate,
        issuer: &Certificate,
        deadline: Instant,
    ) -> Result<OcspResponse, String> {
        if let Some(reason) = self.is_resting(url) {
            return Err(reason);
        }
        let question = format!("{} {url}", HEXLOWER.encode(certificate.fingerprint()));
        let answer = self
            .ocsp_flights
            .join(&question, deadline, || self.ask_responder(url, certificate, issuer, deadline));
        answer.map_or_else(|| Err("there was no answer in time".into()), |answer| (*answer).clone())
    }

    fn ask_responder(
        &self,
        url: &str,
        certificate: &Certificate,
        issuer: &Certificate,
        deadline: Instant,
    ) -> Result<OcspResponse, String> {
        // A random key is 32 random octets as well as any.
        let nonce = if self.settings.nonce { ContentEncryptionKey::random(32).ok() } else { None };
        let request = OcspRequest::new(certificate, issuer, nonce.as_ref().map(ContentEncryptionKey::expose))
            .ok_or("the certificate cannot be read")?;
        let started = Instant::now();
        let get = get_url(url, request.der());
        let fetched = match &get {
            Some(get) => self.client.ask(get, Question::Get { etag: None }, deadline),
            None => self.client.ask(url, Question::Post { body: request.der() }, deadline),
        };
        let fetched = match fetched {
            // Old responders know POST only.
            Err(super::FetchError::Status(status)) if get.is_some() && status.is_client_error() => {
                self.client.ask(url, Question::Post { body: request.der() }, deadline)
            }
            fetched => fetched,
        };
        let octets = match fetched {
            Ok(Fetched::Body { octets, .. }) => octets,
            Ok(Fetched::Unchanged) => return Err("the server answers nothing".into()),
            Err(error) => return Err(self.rest(url, &error, started)),
        };
        if octets.len() > certcache::MAX_OCSP_LEN {
            return Err("the response is longer than any may be".into());
        }
        let response = OcspResponse::from_der(&octets).map_err(|error| error.to_string())?;
        let Some((this_update, until)) = response.validity_for(certificate, issuer) else {
            return Err("the response is about another certificate".into());
        };
        // One without is an answer that was made before (RFC 9654 3).
        if request.nonce().is_some() && response.nonce().is_some_and(|nonce| Some(nonce) != request.nonce()) {
            return Err("the response is to another request: its nonce differs".into());
        }
        let now = SystemTime::now();
        if this_update > now + SKEW {
            return Err("the response is from the future".into());
        }
        // That a responder has forgotten a certificate takes nothing back.
        let says_less = !response.decides(certificate, issuer)
            && self.kept_ocsp(certificate, issuer).is_some_and(|kept| kept.is_final);
        // What is not surely authentic is looked at by whoever asked, and not kept for others.
        if !says_less && response.check_responder(certificate, issuer, now).is_ok() {
            let status = Status {
                der: response.der().to_vec(),
                this_update,
                next_update: Some(until),
                fetched: now,
                url: Some(url.to_owned()),
                etag: None,
            };
            self.store.put_ocsp(certificate, &status);
        }
        Ok(response)
    }
}

/// The URL that is the request, unless it would be longer than 255 octets (RFC 5019 5).
fn get_url(url: &str, request: &[u8]) -> Option<String> {
    let mut get = url.trim_end_matches('/').to_owned();
    get.push('/');
    for c in BASE64.encode(request).chars() {
        match c {
            '+' => get.push_str("%2B"),
            '/' => get.push_str("%2F"),
            '=' => get.push_str("%3D"),
            other => get.push(other),
        }
    }
    (get.len() <= 255 && !url.contains(['?', '#'])).then_some(get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_requests_are_in_the_url_and_long_ones_are_posted() {
        assert_eq!(get_url("http://a/b/", &[0xFB, 0xFF, 0]).as_deref(), Some("http://a/b/%2B%2F8A"));
        assert_eq!(get_url("http://a", &[0xFF]).as_deref(), Some("http://a/%2Fw%3D%3D"));
        assert!(get_url("http://a", &[0; 170]).is_some_and(|url| url.len() < 255));
        assert_eq!(get_url("http://a", &[0; 200]), None);
        assert_eq!(get_url("http://a?x=y", &[0]), None);
    }
}
