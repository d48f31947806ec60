//! The other side: S/MIME software that is not ours.
//!
//! Each peer takes and gives octets: MIME entities, CMS objects, mails. None has a part in the product.

mod bouncycastle;
mod gpgsm;
mod nss;
mod openssl;

pub use bouncycastle::BouncyCastle;
pub use gpgsm::Gpgsm;
pub use nss::Nss;
pub use openssl::{OpenSsl, Recipient};

use data_encoding::BASE64;

/// A MIME entity around a CMS object (RFC 8551 3.5.1), e.g. `smime_type` "enveloped-data".
pub fn pkcs7_mime(smime_type: &str, object: &[u8]) -> Vec<u8> {
    let mut entity = format!(
        "Content-Type: application/pkcs7-mime; smime-type={smime_type}; name=\"smime.p7m\"\r\n\
         Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"smime.p7m\"\r\n\r\n"
    );
    push_base64(&mut entity, object);
    entity.into_bytes()
}

/// A `multipart/signed` entity around canonical content and its detached signature (RFC 8551 3.5.3).
pub fn multipart_signed(content: &[u8], signature: &[u8]) -> Vec<u8> {
    let mut tail = String::from(
        "\r\n--=_peer\r\nContent-Type: application/pkcs7-signature; name=\"smime.p7s\"\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n",
    );
    push_base64(&mut tail, signature);
    tail.push_str("--=_peer--\r\n");
    let head = "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\";\r\n \
                micalg=sha-256; boundary=\"=_peer\"\r\n\r\n--=_peer\r\n";
    [head.as_bytes(), content, tail.as_bytes()].concat()
}

fn push_base64(text: &mut String, octets: &[u8]) {
    for line in octets.chunks(57) {
        text.push_str(&BASE64.encode(line));
        text.push_str("\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Letter, ugly_entity};
    use crate::mime;
    use crate::pki::{Key, Person, Pki, Profile};
    use crate::workdir::Workdir;

    struct World {
        pki: Pki,
        erin: Person,
        workdir: Workdir,
    }

    fn world() -> World {
        let workdir = Workdir::new("peers").unwrap();
        let pki = Pki::new(&workdir.directory("pki").unwrap()).unwrap();
        let erin = pki.issue(&Profile::new("erin", "erin@partner.example", Key::Rsa2048)).unwrap();
        World { pki, erin, workdir }
    }

    const LETTER: Letter<'_> = Letter { from: "erin@partner.example", to: "b@example.org", subject: "s" };
    const CONTENT: &[u8] = b"Content-Type: text/plain\r\n\r\nhello\r\n";

    #[test]
    fn what_each_peer_signs_each_peer_verifies_and_a_changed_octet_is_found() {
        let World { pki, erin, workdir } = world();
        let openssl = OpenSsl::new(&workdir, &pki).unwrap();
        let gpgsm = Gpgsm::new(&workdir, &pki, Some(&erin)).unwrap();
        let nss = Nss::new(&workdir, &pki).unwrap();
        let by_openssl = openssl.sign(CONTENT, &erin).unwrap();
        let by_gpgsm = multipart_signed(CONTENT, &gpgsm.sign(CONTENT, &erin).unwrap());
        for (signer, entity) in [("openssl", by_openssl), ("gpgsm", by_gpgsm)] {
            let mail = LETTER.carrying(&entity);
            let signed = mime::signed(&mail).unwrap();
            assert_eq!(signed.content, CONTENT, "{signer}");
            assert_eq!(openssl.verify(&mail).unwrap(), CONTENT, "{signer}");
            gpgsm.verify(&signed).unwrap();
            nss.verify(&signed).unwrap();

            let changed = String::from_utf8(mail).unwrap().replace("hello", "hellO").into_bytes();
            let signed = mime::signed(&changed).unwrap();
            assert!(openssl.verify(&changed).is_err(), "{signer}");
            assert!(gpgsm.verify(&signed).is_err(), "{signer}");
            assert!(nss.verify(&signed).is_err(), "{signer}");
        }
    }

    #[test]
    fn what_each_peer_encrypts_openssl_decrypts() {
        let World { pki, erin, workdir } = world();
        let openssl = OpenSsl::new(&workdir, &pki).unwrap();
        let gpgsm = Gpgsm::new(&workdir, &pki, Some(&erin)).unwrap();
        let content = mime::crlf(&ugly_entity(1000));
        let objects = [
            ("v1.5", openssl.encrypt(&content, &[Recipient::pkcs1(&erin)], &[]).unwrap()),
            ("OAEP", openssl.encrypt(&content, &[Recipient::oaep(&erin)], &[]).unwrap()),
            ("stream", openssl.encrypt(&content, &[Recipient::pkcs1(&erin)], &["-stream"]).unwrap()),
            ("gpgsm", pkcs7_mime("enveloped-data", &gpgsm.encrypt(&content, &[&erin]).unwrap())),
        ];
        for (how, entity) in objects {
            let mail = LETTER.carrying(&entity);
            assert_eq!(openssl.decrypt(&mail, &erin).unwrap(), content, "{how}");
        }
    }

    #[test]
    fn an_untrusted_signer_is_refused_by_every_peer() {
        let World { pki, workdir, .. } = world();
        let other = Pki::new(&workdir.directory("other").unwrap()).unwrap();
        let mallory = other.issue(&Profile::new("mallory", "erin@partner.example", Key::Rsa2048)).unwrap();
        let openssl = OpenSsl::new(&workdir, &other).unwrap();
        let mail = LETTER.carrying(&openssl.sign(CONTENT, &mallory).unwrap());
        openssl.verify(&mail).unwrap();

        let signed = mime::signed(&mail).unwrap();
        assert!(OpenSsl::new(&workdir, &pki).unwrap().verify(&mail).is_err());
        assert!(Gpgsm::new(&workdir, &pki, None).unwrap().verify(&signed).is_err());
        assert!(Nss::new(&workdir, &pki).unwrap().verify(&signed).is_err());
    }
}
