//! The rows: every algorithm and form that S/MIME 4.0 names, and what old mail holds.

use smime::{
    algorithm::DigestAlgorithm::{self as Hash, Md5, Sha1, Sha256, Sha384, Sha512},
    message::Reason,
};

use crate::form::{Beside, Cipher, Dress, Form, Scheme, Sealing, Signing, Way, Who};
use Cipher::{AesCbc, AesGcm, ChaCha20Poly1305, Des, Rc2, TripleDes};

/// One line of a table.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which table.
    pub group: &'static str,
    /// What is in the message.
    pub name: String,
    /// The same as data.
    pub form: Form,
}

/// All rows, table by table.
pub fn all() -> Vec<Row> {
    let mut rows = Rows::default();
    rows.signatures();
    rows.forms_of_signatures();
    rows.ciphers();
    rows.transport();
    rows.agreement();
    rows.recipients();
    rows.layers();
    rows.old();
    rows.rows
}

#[derive(Default)]
struct Rows {
    rows: Vec<Row>,
    group: &'static str,
}

const STRONG: [Hash; 3] = [Sha256, Sha384, Sha512];

impl Rows {
    fn add(&mut self, name: impl Into<String>, form: Form) {
        self.rows.push(Row { group: self.group, name: name.into(), form });
    }

    fn signatures(&mut self) {
        self.group = "Signatures";
        let mut schemes = Vec::new();
        for hash in STRONG {
            schemes.push((format!("RSA PKCS #1 v1.5, {}", name(hash)), Who::Rsa, Scheme::Pkcs1(hash)));
        }
        for hash in STRONG {
            schemes.push((format!("RSASSA-PSS, {}", name(hash)), Who::Rsa, Scheme::Pss(hash)));
        }
        for (who, hash) in [(Who::P256, Sha256), (Who::P384, Sha384), (Who::P521, Sha512)] {
            schemes.push((format!("ECDSA {}, {}", curve(who), name(hash)), who, Scheme::Ecdsa(hash)));
        }
        schemes.push(("Ed25519".to_owned(), Who::Ed25519, Scheme::Ed25519));
        for (name, who, scheme) in schemes {
            self.add(format!("{name}, detached"), Form::Signed(Signing::by(who, scheme)));
            self.add(format!("{name}, opaque"), Form::Signed(Signing::by(who, scheme).opaque()));
        }
        for hash in STRONG {
            self.add(
                format!("RSASSA-PSS, {}, longest salt", name(hash)),
                Form::Signed(Signing::by(Who::Rsa, Scheme::PssMaximum(hash))),
            );
        }
        let other = Signing::by(Who::P256, Scheme::Ecdsa(Sha512));
        self.add("ECDSA P-256, SHA-512, detached", Form::Signed(other));
    }

    fn forms_of_signatures(&mut self) {
        self.group = "Forms of signatures";
        let rsa = || Signing::by(Who::Rsa, Scheme::Pkcs1(Sha256));
        let mut add = |name: &str, signing: Signing| {
            self.add(format!("{name}, detached"), Form::Signed(signing.clone()));
            self.add(format!("{name}, opaque"), Form::Signed(signing.opaque()));
        };
        add("Signer named by subjectKeyIdentifier", Signing { by_key: true, ..rsa() });
        let reason = Some(Reason::NoSignedAttributes);
        add("Without signed attributes", Signing { bare: true, reason, ..rsa() });
        add("Indefinite lengths (BER)", Signing { ber: true, ..rsa() });
        let two = vec![(Who::Rsa, Scheme::Pkcs1(Sha256)), (Who::Rsa2, Scheme::Pkcs1(Sha256))];
        add("Two signers", Signing { signers: two, ..rsa() });
        let mixed = vec![(Who::Rsa, Scheme::Pkcs1(Sha256)), (Who::P384, Scheme::Ecdsa(Sha384))];
        add("Two signers, RSA and ECDSA P-384", Signing { signers: mixed, ..rsa() });
        add("application/x-pkcs7-…", Signing { dress: Dress::X, ..rsa() });
        add("application/octet-stream with a file name", Signing { dress: Dress::OctetStream, ..rsa() });
        add("PKCS #7 v1.5 programs", Signing { dress: Dress::Pkcs7, ..rsa() });
        let countersigner = Some((Who::P256, Scheme::Ecdsa(Sha256)));
        self.add("Countersigned, detached", Form::Signed(Signing { countersigner, ..rsa() }));
        self.add("Countersigned, opaque", Form::Signed(Signing { countersigner, ..rsa().opaque() }));
        self.add("Certificates only", Form::CertificatesOnly);
    }

    fn ciphers(&mut self) {
        self.group = "Content encryption, to an RSA key (PKCS #1 v1.5)";
        for cipher in
            [AesCbc(128), AesCbc(192), AesCbc(256), AesGcm(128), AesGcm(192), AesGcm(256), ChaCha20Poly1305]
        {
            self.add(cipher_name(cipher), Form::Sealed(Sealing::to(cipher, Who::Rsa, Way::Pkcs1)));
        }
        for cipher in [AesCbc(128), AesGcm(128)] {
            let sealing = Sealing { ber: true, ..Sealing::to(cipher, Who::Rsa, Way::Pkcs1) };
            self.add(format!("{}, indefinite lengths (BER)", cipher_name(cipher)), Form::Sealed(sealing));
        }
        let dressed =
            |dress| Form::Sealed(Sealing { dress, ..Sealing::to(AesCbc(128), Who::Rsa, Way::Pkcs1) });
        self.add("AES-128-CBC, application/x-pkcs7-mime", dressed(Dress::X));
        self.add("AES-128-CBC, application/octet-stream with a file name", dressed(Dress::OctetStream));
        self.add("AES-128-CBC, PKCS #7 v1.5 programs", dressed(Dress::Pkcs7));
        self.add("CompressedData", Form::Compressed { ber: false });
        self.add("CompressedData, indefinite lengths (BER)", Form::Compressed { ber: true });
    }

    fn transport(&mut self) {
        self.group = "Key transport by RSA";
        for hash in [Sha1, Sha256, Sha384, Sha512] {
            for cipher in [AesCbc(256), AesGcm(256)] {
                let form = Form::Sealed(Sealing::to(cipher, Who::Rsa, Way::Oaep(hash)));
                self.add(format!("RSAES-OAEP, {}, {}", name(hash), cipher_name(cipher)), form);
            }
        }
        for (hash, mask) in [(Sha256, Sha1), (Sha512, Sha1), (Sha1, Sha256)] {
            let form = Form::Sealed(Sealing::to(AesCbc(256), Who::Rsa, Way::OaepMask(hash, mask)));
            self.add(format!("RSAES-OAEP, {}, MGF1 with {}, AES-256-CBC", name(hash), name(mask)), form);
        }
        let form = Form::Sealed(Sealing::to(AesCbc(256), Who::Rsa, Way::OaepLabel(Sha256)));
        self.add("RSAES-OAEP, SHA-256, with a label, AES-256-CBC", form);
    }

    fn agreement(&mut self) {
        self.group = "Key agreement";
        for who in [Who::P256, Who::P384, Who::P521] {
            for hash in [Sha1, Sha256, Sha384, Sha512] {
                let name =
                    format!("ECDH {}, X9.63 with {}, AES-256-wrap, AES-256-CBC", curve(who), name(hash));
                self.add(name, Form::Sealed(Sealing::to(AesCbc(256), who, Way::Ecdh(hash, 256))));
            }
        }
        for bits in [128, 192] {
            let name = format!("ECDH P-256, X9.63 with SHA-256, AES-{bits}-wrap, AES-{bits}-CBC");
            self.add(name, Form::Sealed(Sealing::to(AesCbc(bits), Who::P256, Way::Ecdh(Sha256, bits))));
        }
        for bits in [128, 256] {
            let name = format!("ECDH P-256, X9.63 with SHA-256, AES-{bits}-wrap, AES-{bits}-GCM");
            self.add(name, Form::Sealed(Sealing::to(AesGcm(bits), Who::P256, Way::Ecdh(Sha256, bits))));
        }
        for hash in [Sha1, Sha256] {
            let name = format!("Cofactor ECDH P-256, X9.63 with {}, AES-256-wrap, AES-256-CBC", name(hash));
            self.add(name, Form::Sealed(Sealing::to(AesCbc(256), Who::P256, Way::Cofactor(hash))));
        }
        for cipher in [AesCbc(256), AesGcm(256)] {
            let form = Form::Sealed(Sealing::to(cipher, Who::X25519, Way::Hkdf));
            self.add(format!("X25519, HKDF, AES-256-wrap, {}", cipher_name(cipher)), form);
        }
    }

    fn recipients(&mut self) {
        self.group = "Recipients";
        let rsa = Sealing::to(AesCbc(128), Who::Rsa, Way::Pkcs1);
        let p256 = Sealing::to(AesCbc(128), Who::P256, Way::Ecdh(Sha256, 128));
        let oaep = Sealing::to(AesGcm(256), Who::Rsa, Way::Oaep(Sha256));
        for (name, sealing) in
            [("RSA PKCS #1 v1.5", &rsa), ("RSAES-OAEP, AES-256-GCM", &oaep), ("ECDH P-256", &p256)]
        {
            let form = Form::Sealed(Sealing { by_key: true, ..sealing.clone() });
            self.add(format!("{name}, named by subjectKeyIdentifier"), form);
        }
        let two = vec![(Who::Rsa, Way::Pkcs1), (Who::Rsa2, Way::Pkcs1)];
        self.add("Two RSA keys", Form::Sealed(Sealing { to: two, ..rsa.clone() }));
        let ecdh = |who, hash| (who, Way::Ecdh(hash, 128));
        let curves = vec![ecdh(Who::P256, Sha256), ecdh(Who::P384, Sha384), ecdh(Who::P521, Sha512)];
        let mixed = [vec![(Who::Rsa, Way::Pkcs1), (Who::Rsa2, Way::Oaep(Sha256))], curves].concat();
        self.add(
            "RSA, RSAES-OAEP, P-256, P-384 and P-521",
            Form::Sealed(Sealing { to: mixed, ..rsa.clone() }),
        );
        for (name, beside) in [("a password", Beside::Password), ("a shared key", Beside::SharedKey)] {
            let form = Form::Sealed(Sealing { beside: Some(beside), ..rsa.clone() });
            self.add(format!("RSA, and whoever has {name}"), form);
        }
        let gcm = Sealing { cipher: AesGcm(256), ..rsa.clone() };
        self.add(
            "Rekeyed here: AES-128-CBC, from RSA to RSA",
            Form::Rekeyed(rsa.clone(), (Who::Rsa2, Way::Pkcs1)),
        );
        self.add(
            "Rekeyed here: AES-128-CBC, from RSA to RSAES-OAEP",
            Form::Rekeyed(rsa.clone(), (Who::Rsa2, Way::Oaep(Sha256))),
        );
        self.add(
            "Rekeyed here: AES-128-CBC, from RSA to ECDH P-256",
            Form::Rekeyed(rsa.clone(), ecdh(Who::P256, Sha256)),
        );
        self.add(
            "Recipient added here: AES-128-CBC, RSA beside RSA",
            Form::Added(rsa.clone(), (Who::Rsa2, Way::Pkcs1)),
        );
        self.add(
            "Recipient added here: AES-128-CBC, ECDH P-256 beside RSA",
            Form::Added(rsa.clone(), ecdh(Who::P256, Sha256)),
        );
        let ber = Sealing { ber: true, ..rsa };
        self.add(
            "Rekeyed here: AES-128-CBC in BER, from RSA to RSA",
            Form::Rekeyed(ber, (Who::Rsa2, Way::Pkcs1)),
        );
        self.add(
            "Rekeyed here: AES-256-GCM, from RSA to RSAES-OAEP",
            Form::Rekeyed(gcm, (Who::Rsa2, Way::Oaep(Sha256))),
        );
        self.add(
            "Rekeyed here: AES-128-CBC, from ECDH P-256 to RSA",
            Form::Rekeyed(p256, (Who::Rsa2, Way::Pkcs1)),
        );
    }

    fn layers(&mut self) {
        self.group = "Layers";
        let rsa = Signing::by(Who::Rsa, Scheme::Pkcs1(Sha256));
        let ec = Signing::by(Who::P256, Scheme::Ecdsa(Sha256));
        let cbc = Sealing::to(AesCbc(128), Who::Rsa2, Way::Pkcs1);
        let gcm = Sealing::to(AesGcm(256), Who::Rsa2, Way::Oaep(Sha256));
        self.add("Signed (detached), then encrypted", Form::SignedSealed(rsa.clone(), cbc.clone()));
        self.add("Signed (opaque), then encrypted", Form::SignedSealed(rsa.clone().opaque(), cbc.clone()));
        self.add("Signed (ECDSA), then encrypted (RSAES-OAEP, AES-256-GCM)", Form::SignedSealed(ec, gcm));
        let both = Sealing { to: vec![(Who::Rsa2, Way::Pkcs1), (Who::Rsa, Way::Pkcs1)], ..cbc.clone() };
        self.add(
            "Signed, then encrypted to the recipient and to the signer, and both open it",
            Form::SignedSealed(rsa.clone(), both),
        );
        self.add(
            "Signed (opaque), then encrypted as it is, without MIME between",
            Form::RawSealed(rsa.clone().opaque(), cbc.clone()),
        );
        self.add("Signed (detached), then compressed", Form::SignedCompressed(rsa.clone()));
        self.add("Signed (opaque), then compressed", Form::SignedCompressed(rsa.clone().opaque()));
        self.add("Compressed, then encrypted", Form::CompressedSealed(cbc.clone()));
        self.add("Encrypted, then signed (detached)", Form::SealedSigned(cbc.clone(), rsa.clone()));
        self.add("Encrypted, then signed (opaque)", Form::SealedSigned(cbc.clone(), rsa.clone().opaque()));
        let gcm = Sealing::to(AesGcm(256), Who::P256, Way::Ecdh(Sha256, 256));
        let ec = Signing::by(Who::P256, Scheme::Ecdsa(Sha256));
        self.add("Encrypted (ECDH P-256, AES-256-GCM), then signed (ECDSA)", Form::SealedSigned(gcm, ec));
        self.add("Triple wrapped, detached", Form::Triple(rsa.clone(), cbc.clone()));
        self.add("Triple wrapped, opaque", Form::Triple(rsa.opaque(), cbc));
    }

    fn old(&mut self) {
        self.group = "Old mail, which is only read";
        for cipher in [TripleDes, Des, Rc2(128), Rc2(64), Rc2(40)] {
            self.add(cipher_name(cipher), Form::Sealed(Sealing::to(cipher, Who::Rsa, Way::Pkcs1)));
        }
        for hash in [Sha1, Sha256] {
            let name = format!("ECDH P-256, X9.63 with {}, Triple-DES-wrap, Triple-DES", name(hash));
            self.add(name, Form::Sealed(Sealing::to(TripleDes, Who::P256, Way::TripleDesWrap(hash))));
        }
        let form = Sealing { dress: Dress::Pkcs7, ..Sealing::to(TripleDes, Who::Rsa, Way::Pkcs1) };
        self.add("Triple-DES, PKCS #7 v1.5 programs", Form::Sealed(form));
        let reason = Some(Reason::NoSignedAttributes);
        let bare = Signing { bare: true, reason, ..Signing::by(Who::Rsa, Scheme::Pkcs1(Sha1)) };
        self.add("RSA PKCS #1 v1.5, SHA-1, without signed attributes, detached", Form::Signed(bare.clone()));
        self.add("RSA PKCS #1 v1.5, SHA-1, without signed attributes, opaque", Form::Signed(bare.opaque()));
        for hash in [Sha1, Md5] {
            let weak = Signing { reason: Some(Reason::Weak), ..Signing::by(Who::Rsa, Scheme::Pkcs1(hash)) };
            let name = format!("RSA PKCS #1 v1.5, {}", name(hash));
            self.add(format!("{name}, detached"), Form::Signed(weak.clone()));
            self.add(format!("{name}, opaque"), Form::Signed(weak.opaque()));
        }
        let weak =
            |who, scheme| Form::Signed(Signing { reason: Some(Reason::Weak), ..Signing::by(who, scheme) });
        self.add("RSASSA-PSS, SHA-1, detached", weak(Who::Rsa, Scheme::Pss(Sha1)));
        self.add("ECDSA P-256, SHA-1, detached", weak(Who::P256, Scheme::Ecdsa(Sha1)));
    }
}

/// The name of a hash as RFCs write it.
pub fn name(hash: Hash) -> &'static str {
    match hash {
        Md5 => "MD5",
        Sha1 => "SHA-1",
        Hash::Sha224 => "SHA-224",
        Sha256 => "SHA-256",
        Sha384 => "SHA-384",
        Sha512 => "SHA-512",
    }
}

fn curve(who: Who) -> &'static str {
    match who {
        Who::P384 => "P-384",
        Who::P521 => "P-521",
        _ => "P-256",
    }
}

fn cipher_name(cipher: Cipher) -> String {
    match cipher {
        AesCbc(bits) => format!("AES-{bits}-CBC"),
        AesGcm(bits) => format!("AES-{bits}-GCM"),
        ChaCha20Poly1305 => "ChaCha20-Poly1305".to_owned(),
        TripleDes => "Triple-DES".to_owned(),
        Des => "DES".to_owned(),
        Rc2(bits) => format!("RC2 with {bits} bits"),
    }
}
