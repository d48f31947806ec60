//! Which private key belongs to a certificate.

use std::time::Duration;

use cryptoki::object::{Attribute, ObjectClass};
use smime::{
    Certificate, Fault,
    algorithm::{
        DigestAlgorithm::{Sha1, Sha256},
        KeyEncryptionAlgorithm,
        SignatureAlgorithm::Ecdsa,
    },
    key::{Decryptor, Digest, KeyError, Signer, Unwrapped},
};
use testkit::{isolated::not_applicable, token::Kind};

use crate::support::{PIN, Through, assert_signs, digest, isolated, pool_of, run, sign};

#[test]
fn a_key_that_was_added_later_is_found_and_looking_is_limited() {
    isolated(Through::Spy, |token| {
        let known = token.import_key("mail", "rsa:2048", "01");
        let pool = pool_of(&token.settings());
        let passes = || token.count("C_FindObjectsInit");
        let at_start = passes();
        (0..5).for_each(|_| assert_signs(&pool.key(&known)));
        // What a server of keys says does not tell that.
        assert_eq!(pool.key(&known).tokens(), if crate::SERVED { vec![] } else { vec!["mail"] });
        assert_eq!(passes(), at_start, "known keys are not looked for");

        let added = token.import_key("mail", "rsa:2048", "02");
        assert_signs(&pool.key(&added));
        let after_refresh = passes();
        assert!(after_refresh > at_start);

        // Hostile mail may name any certificate; that must not make the token read all its keys each time.
        let foreign = token.certificate("rsa:2048", "03");
        for _ in 0..5 {
            let error = sign(&pool.key(&foreign)).unwrap_err();
            assert!(matches!(&error, KeyError::NoSuchKey { token, .. } if token == "mail"), "{error:?}");
            assert_eq!(error.fault(), Fault::Operator);
            assert!(error.to_string().contains("CN=03"), "{error}");
        }
        assert_eq!(passes(), after_refresh);
        let missing = pool.missing_keys([&known, &added, &foreign], Duration::from_secs(5)).unwrap();
        assert_eq!(missing, [&foreign]);
    });
}

#[test]
fn without_a_public_key_object_the_id_decides() {
    isolated(Through::Nothing, |token| {
        // The private key object of an RSA key shows the public key itself.
        if token.lacks("ECDSA", "sign") {
            return;
        }
        let certificate = token.certificate("P-256", "aa");
        let by_hash = Digest::of(Sha1, certificate.public_key());
        let by_hash = data_encoding::HEXLOWER.encode(by_hash.as_bytes());
        let other = token.certificate("P-256", "bb");
        for (name, id) in [("aa", by_hash.as_str()), ("bb", "0bad")] {
            token.import_file("mail", PIN, name, id);
            let mut delete = token.pkcs11_tool();
            run(delete.args(["--delete-object", "--type", "pubkey", "--id", id]), "opensc");
        }
        let pool = pool_of(&token.settings());
        pool.key(&certificate).sign(&digest(Sha256), Ecdsa(Sha256)).unwrap();
        let error = pool.key(&other).sign(&digest(Sha256), Ecdsa(Sha256)).unwrap_err();
        assert!(matches!(error, KeyError::NoSuchKey { .. }), "{error:?}");
    });
}

#[test]
fn an_id_does_not_win_over_another_public_key() {
    isolated(Through::Nothing, |token| {
        // On the token is key "bb", but under the CKA_ID that certificate "aa" would have.
        let certificate = token.certificate("P-256", "aa");
        token.certificate("P-256", "bb");
        let id = Digest::of(Sha1, certificate.public_key());
        token.import_file("mail", PIN, "bb", &data_encoding::HEXLOWER.encode(id.as_bytes()));
        let pool = pool_of(&token.settings());
        let error = pool.key(&certificate).sign(&digest(Sha256), Ecdsa(Sha256)).unwrap_err();
        assert!(matches!(error, KeyError::NoSuchKey { .. }), "{error:?}");
    });
}

#[test]
fn what_a_key_may_not_do_is_a_shortcoming_of_its_token() {
    isolated(Through::Nothing, |token| {
        if token.lacks("ECDH1-DERIVE", "derive") {
            return;
        }
        let rsa = token.import_key("mail", "rsa:2048", "01");
        let ec = token.certificate("P-256", "02");
        for (kind, options) in [("privkey", &[][..]), ("pubkey", &["-pubout"][..])] {
            let mut convert = token.command("openssl");
            run(
                convert.args(["pkey", "-in", "02.key", "-outform", "DER", "-out", kind]).args(options),
                "openssl",
            );
            let mut import = token.pkcs11_tool();
            import.args(["--write-object", kind, "--type", kind, "--id", "02", "--usage-sign"]);
            run(&mut import, "opensc");
        }
        let absent = token.certificate("P-256", "03");
        let pool = pool_of(&token.settings());
        let told = |certificates: &[&Certificate]| {
            let told = pool.shortcomings(certificates.iter().copied(), Duration::from_secs(5)).unwrap();
            told.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(told(&[&rsa, &absent]), Vec::<String>::new());
        // pkcs11-tool knows whether whoever imported the key lets it derive.
        let list = ["--list-objects", "--type", "privkey"];
        let listed = String::from_utf8(run(token.pkcs11_tool().args(list), "opensc")).unwrap();
        let listed = listed.split("Private Key Object").find(|object| object.starts_with("; EC")).unwrap();
        let sentence =
            format!("token \"mail\" has the key of {ec} but does not let it agree on keys (CKA_DERIVE)");
        let expected = if listed.contains("derive") { vec![] } else { vec![sentence] };
        assert_eq!(told(&[&rsa, &ec, &absent]), expected, "{listed}");
    });
}

#[test]
fn of_several_objects_of_one_key_the_one_that_may_is_used() {
    isolated(Through::Spy, |token| {
        let [one, other] = ["01", "02"].map(|id| token.import_key("mail", "rsa:2048", id));
        let (sign, decrypt) = (Attribute::Sign, Attribute::Decrypt);
        let id = |id: u8| Attribute::Id(vec![id]);
        let adjusted = token.with_session(|session| -> cryptoki::error::Result<()> {
            let find = |id| session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY), id]);
            let [one, other] = [find(id(1))?.remove(0), find(id(2))?.remove(0)];
            // By one CKA_ID, and by two.
            session.copy_object(one, &[sign(false), decrypt(true)])?;
            session.copy_object(other, &[id(3), sign(false), decrypt(true)])?;
            for object in [one, other] {
                session.update_attributes(object, &[sign(true), decrypt(false)])?;
            }
            Ok(())
        });
        if let Err(error) = adjusted {
            return not_applicable(&format!(
                "the token does not copy private keys with other permissions: {error}"
            ));
        }
        // Of those that may, one that wants no PIN for it.
        run(
            token.command("openssl").args(["pkey", "-in", "01.key", "-outform", "DER", "-out", "der"]),
            "openssl",
        );
        let careful = ["--write-object", "der", "--type", "privkey", "--id", "01", "--always-auth"];
        run(token.pkcs11_tool().args(careful), "opensc");
        let pool = pool_of(&token.settings());
        let logins = token.count("C_Login");
        for (certificate, name) in [(&one, "01"), (&other, "02")] {
            let encrypted = token.encrypt_to(name, &[7; 32], &[]);
            let key = pool.key(certificate);
            for _ in 0..4 {
                assert_signs(&key);
                let unwrapped = key.decrypt_key(&encrypted, &KeyEncryptionAlgorithm::RsaPkcs1).unwrap();
                assert!(matches!(unwrapped, Unwrapped::Key(secret) if secret.expose() == [7; 32]));
            }
        }
        // What softokn tells of copies is less than of keys that are written, so these are the surer ones.
        if Kind::chosen().unwrap() != Kind::Softokn {
            assert_eq!(token.count("C_Login"), logins, "no use wants the PIN");
        }
        let told = pool.shortcomings([&one, &other], Duration::from_secs(5)).unwrap();
        assert_eq!(told, []);
    });
}
