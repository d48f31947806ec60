//! What the targets start from: smime's fixtures, and the files in `corpus/TARGET`.

use std::{fs, path::Path};

use smime::{
    Certificate,
    algorithm::DigestAlgorithm,
    ber::Tag,
    cms::{self, compress},
    key::Digest,
    mime::encode_base64,
    testing::{
        Node,
        draft::{Draft, extension, key_purposes},
        evidence::{Single, Status, response},
        fixtures::{certificate, data, key, now},
        hostile,
    },
};

use crate::mutate::Random;

/// The seeds of a target.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let mut seeds = match target {
        "mime" => [messages(), texts()].concat(),
        "multipart_signed" => messages(),
        "protection" => [messages(), texts(), protected()].concat(),
        "cms" | "verify" | "open" | "rekey" => fixtures(&["p7m", "p7s"]),
        "compressed" => {
            let mut seeds = fixtures(&["p7z"]);
            let texts = [&b"Content-Type: text/plain\r\n\r\nHello.\r\n"[..], &[b'a'; 5000], b""];
            seeds.extend(texts.iter().filter_map(|text| compress(text).ok()));
            seeds
        }
        "certificate" => certificates().iter().map(|certificate| certificate.der().to_vec()).collect(),
        "crl" => fixtures(&["crl"]),
        "ocsp" => responses(),
        "path" => paths(),
        "mbox" => mailboxes(),
        _ => Vec::new(),
    };
    seeds.extend(amplified(target));
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    seeds.extend(files(&corpus, |_| true));
    seeds
}

/// Few and large: what is kept of each small piece shows only where there are many.
fn amplified(target: &str) -> Vec<Vec<u8>> {
    let header = |from: &str, line: &str| [from, &line.repeat(AMPLIFIED / line.len()), "\r\nx\r\n"].concat();
    let seeds = match target {
        "mime" | "multipart_signed" => {
            ["a\r\n", "a:\r\n"].map(|line| header("From: a@example.org\r\n", line)).to_vec()
        }
        "protection" => vec![header("Content-Type: text/plain; hp=cipher\r\n", "a:\r\n")],
        "cms" => return vec![segmented(b"\x04\x02ab"), segmented(b"\x04\x06abcdef")],
        "verify" => {
            return [vec![segmented(b"\x04\x02ab"), segmented(b"\x04\x06abcdef")], crowded()].concat();
        }
        "open" | "rekey" => return vec![named(&data("der.p7m"), &[1, 0, 1, 0, 1, 0])],
        "compressed" => return bombs(),
        "mbox" => [
            "From a@b Fri Sep 16 22:26:51 2016\nA: 1\n\n",
            "From -\nA:\n\n",
            "From a\n\nContent-Length: 9\n",
            ">From \n",
        ]
        .map(|message| message.repeat(AMPLIFIED / message.len()))
        .to_vec(),
        _ => Vec::new(),
    };
    seeds.into_iter().map(String::into_bytes).collect()
}

/// Mailboxes as different programs write them, and how they go wrong.
fn mailboxes() -> Vec<Vec<u8>> {
    const DATED: &str = "From alice@example.org Fri Sep 16 22:26:51 2016\n";
    let one = format!("{DATED}Subject: a\n\nbody\n\n");
    let inner = format!("one\n\n{DATED}A: 2\n\nend\n");
    let with_length = |length: usize| format!("{DATED}A: 1\nContent-Length: {length}\n\n{inner}\n{one}");
    let mut seeds = vec![
        one.repeat(3),
        one.repeat(3).replace('\n', "\r\n"),
        format!("\u{feff}\n\n{one}{DATED}A: 1\n\n>From here\n>>From there\nFrom Russia\n\n{DATED}no header\n\n"),
        with_length(inner.len()),
        with_length(inner.len() + 1),
        with_length(4),
        with_length(usize::MAX),
        "From - \nA: 1\n\nx\nFrom - \nA: 2\n\ny\n\nFrom 15@xxx\nA: 1\n\nFrom 15@xxx Fri Sep 16 22:26:51 +0000 2016\n".into(),
        format!("{DATED}>From bob Fri Sep 16 22:26:51 2016\nA: 1\n\nno end"),
        format!("junk\n\n{DATED}A: {}\n\n{}\n\n{DATED}", "x".repeat(500), "y".repeat(70_000)),
    ];
    for message in messages() {
        let text = String::from_utf8_lossy(&message).replace("\r\n", "\n");
        seeds.push(format!("{DATED}{text}\n\n{DATED}{text}\n"));
    }
    seeds.into_iter().map(String::into_bytes).collect()
}

/// How large they are.
const AMPLIFIED: usize = 600_000;

/// SignedData without a signer, whose content is in segments like this one.
fn segmented(segment: &[u8]) -> Vec<u8> {
    let start = b"\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\xa0\x80\x30\x80\x02\x01\x01\x31\x00\
        \x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01\xa0\x80\x24\x80";
    let end = [&[0; 6][..], &[0x31, 0], &[0; 6]].concat();
    [&start[..], &segment.repeat(AMPLIFIED / segment.len()), &end].concat()
}

/// SignedData with names that take much more memory than octets: of certificates, and of a signer.
fn crowded() -> Vec<Vec<u8>> {
    let object = opaque(&data("entity.txt"));
    let certificate = named(certificate("alice").der(), &[0, 3]);
    let mut certificates = Node::parse(&object);
    certificates
        .at(&[1, 0, 3])
        .nodes()
        .extend(vec![Node::parse(&certificate); AMPLIFIED / certificate.len()]);
    vec![certificates.to_der(), named(&object, &[1, 0, 4, 0, 1, 0])]
}

/// An object with a name of many parts in place of what is at `path`.
fn named(object: &[u8], path: &[usize]) -> Vec<u8> {
    let common_name = Node::primitive(Tag::OBJECT_IDENTIFIER, *b"\x55\x04\x03");
    let part = Node::set([Node::sequence([common_name, Node::primitive(Tag(0x13), *b"as many as may be")])]);
    let mut object = Node::parse(object);
    *object.at(path) = Node::sequence(vec![part; 2000]);
    object.to_der()
}

/// Alice's SignedData around a content.
fn opaque(content: &[u8]) -> Vec<u8> {
    let digest = |algorithm| Digest::of(algorithm, content);
    let signed = cms::sign(digest, &key("alice"), &[certificate("ca")], now()).unwrap_or_default();
    let mut object = Node::parse(&signed);
    let content = Node::constructed(Tag::context(0), [Node::octet_string(content)]);
    object.at(&[1, 0, 2]).nodes().push(content);
    object.to_der()
}

/// What makes an object of a content.
type Layer<'l> = &'l dyn Fn(&[u8]) -> Vec<u8>;

/// Compression in compression, alone and in turns with signatures: each layer with a header that shrinks to nothing, and
/// once around what does not shrink.
fn bombs() -> Vec<Vec<u8>> {
    let padding = format!("X-Padding: {}\r\n", "a".repeat(AMPLIFIED / 4));
    let mut random = Random::new(1);
    let noise: Vec<u8> =
        std::iter::repeat_with(|| random.draw().to_be_bytes()[0]).take(AMPLIFIED / 2).collect();
    let entity = |object: &[u8], padding: &str| {
        let header = format!(
            "Content-Type: application/pkcs7-mime\r\n{padding}Content-Transfer-Encoding: binary\r\n\r\n"
        );
        [header.as_bytes(), object].concat()
    };
    let nested = |layers: &[Layer<'_>], inner: Vec<u8>| {
        (0..8).fold(inner, |object, at| layers[at % layers.len()](&entity(&object, &padding)))
    };
    let compress = |content: &[u8]| cms::compress(content).unwrap_or_default();
    let text = |octets: &[u8]| [b"Content-Type: text/plain\r\n\r\n", octets].concat();
    let lines = text(&b"\n".repeat(8 * AMPLIFIED));
    let nulls = [&[0x30, 0x80][..], &[5, 0].repeat(AMPLIFIED), &[0, 0]].concat();
    let inner = [compress(&lines), compress(&entity(&nulls, "")), compress(&entity(&crowded()[0], ""))];
    let mut seeds = vec![
        nested(&[&compress], inner[0].clone()),
        nested(&[&compress, &opaque], inner[0].clone()),
        compress(&text(&[&noise[..], &vec![b'\n'; 7 * noise.len()]].concat())),
        compress(&entity(&opaque(&text(&[&noise[..], &vec![b'\n'; 3 * noise.len()]].concat())), "")),
    ];
    seeds.extend(inner);
    seeds
}

fn files(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    // The order of a folder is that of nobody: a seed must mean the same mutants everywhere.
    paths.sort();
    paths.into_iter().filter(|path| wanted(path)).filter_map(|path| fs::read(path).ok()).collect()
}

fn fixtures(extensions: &[&str]) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../smime/src/testing/data");
    files(&folder, |path| path.extension().is_some_and(|found| extensions.iter().any(|e| found == *e)))
}

/// Messages whose header is in the payload, by each scheme.
fn protected() -> Vec<Vec<u8>> {
    let of = |parameter: &str| {
        format!(
            "From: Alice <alice@example.org>\r\nSubject: [...]\r\nContent-Type: text/plain; charset=us-ascii;{parameter}\r\n\
             HP-Outer: From: Alice <alice@example.org>\r\nHP-Outer: Subject: [...]\r\n\r\nSubject: hidden\r\n\r\nHello.\r\n"
        )
    };
    let parameters =
        [" hp=clear", " hp=cipher", " protected-headers=v1", " hp=cipher; hp-legacy-display=1", ""];
    parameters.into_iter().map(|parameter| of(parameter).into_bytes()).collect()
}

fn messages() -> Vec<Vec<u8>> {
    let entity = String::from_utf8_lossy(&data("entity.txt")).into_owned();
    let clear = fixtures(&["p7s"]).into_iter().map(|object| {
        let base64 = String::from_utf8_lossy(&encode_base64(&object)).into_owned();
        format!(
            "From: Alice <alice@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/signed;\r\n \
             protocol=\"application/pkcs7-signature\"; micalg=sha-256; boundary=b\r\n\r\n--b\r\n{entity}\r\n--b\r\n\
             Content-Type: application/pkcs7-signature; name=smime.p7s\r\nContent-Transfer-Encoding: base64\r\n\r\n\
             {base64}\r\n--b--\r\n"
        )
    });
    let opaque = fixtures(&["p7m"]).into_iter().map(|object| {
        let base64 = String::from_utf8_lossy(&encode_base64(&object)).into_owned();
        format!(
            "From: alice@example.org\r\nContent-Type: application/pkcs7-mime; name=smime.p7m\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n{base64}\r\n"
        )
    });
    let flat: Vec<String> = clear.chain(opaque).collect();
    // Layer in layer: what is signed or compressed may be signed or encrypted itself.
    let compressed = flat.iter().step_by(7).filter_map(|message| {
        let object = encode_base64(&compress(message.as_bytes()).ok()?);
        Some(format!(
            "From: alice@example.org\r\nContent-Type: application/pkcs7-mime; smime-type=compressed-data\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n{}\r\n",
            String::from_utf8_lossy(&object)
        ))
    });
    let nested =
        flat.iter().step_by(5).map(|message| message.replace(entity.as_str(), &flat[flat.len() - 1]));
    flat.iter().cloned().chain(compressed).chain(nested).map(String::into_bytes).collect()
}

fn texts() -> Vec<Vec<u8>> {
    [
        "From: a@example.org\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\n\
         Content-Type: multipart/alternative; boundary=\"c d\"\r\n\r\n--c d\r\n\r\nx\r\n--c d--\r\n--b--\r\n",
        "From: \"A, B\" <a@example.org>, b@example.org\r\nSubject: =?utf-8?q?=C3=BC?=\r\n\
         Content-Type: text/plain;\r\n charset=utf-8; name*0*=utf-8''%C3%BC; name*1=x\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\na=20\r\n=46rom =\r\nb\r\n",
        "From: a@example.org\nContent-Type: message/rfc822\n\nFrom: b@example.org\n\nlong \u{fc} \n.\nFrom x\n",
        "Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\nPGI+w7w8L2I+\r\n",
        "Content-Type: multipart/signed; boundary=b; boundary=c\r\n\r\n--b\r\n--c\r\n\r\n--b--\r\n--c--\r\n",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}

fn certificates() -> Vec<Certificate> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../smime/src/testing/data");
    let pem = files(&folder, |path| path.extension().is_some_and(|found| found == "pem"));
    pem.iter()
        .filter_map(|text| Certificate::from_pem(&String::from_utf8_lossy(text)).ok()?.into_iter().next())
        .chain((0..3).map(hostile::of_one_key))
        .collect()
}

/// Who issued the certificate that `responses` are about, and that one.
pub(crate) fn ocsp_certificates() -> [Certificate; 2] {
    [Draft::ca("CA", 1, "CA").sign(1), Draft::new("Alice", 2, "CA").numbered(10).sign(1)]
}

/// OCSP responses that say revoked, unknown, or good: of others, too long ago, or by whom nobody appointed.
fn responses() -> Vec<Vec<u8>> {
    let [ca, alice] = &ocsp_certificates();
    let bob = &Draft::new("Bob", 3, "CA").numbered(11).sign(1);
    let of = |status| Single::of(alice, ca, status);
    let odd = |is_critical| Single {
        extensions: vec![extension("1.2.3.4", is_critical, &[5, 0])],
        ..of(if is_critical { Status::Good } else { Status::Held })
    };
    let named = Draft::new("Responder", 4, "CA").numbered(40);
    let delegate = |oid: &str| named.clone().with(key_purposes(&[oid])).sign(1);
    let (for_mail, for_ocsp) = (delegate("1.3.6.1.5.5.7.3.4"), delegate("1.3.6.1.5.5.7.3.9"));
    let stranger = named.clone().with(key_purposes(&["1.3.6.1.5.5.7.3.9"])).sign(9);
    let old = Single { from: -99, until: None, ..of(Status::Good) };
    let sha256 = Single { hash: DigestAlgorithm::Sha256, ..of(Status::Revoked) };
    let many = vec![Single::of(bob, ca, Status::Good); 100];
    vec![
        response(ca, 1, &[of(Status::Revoked)], &[]),
        response(ca, 1, &[of(Status::Unknown)], &[]),
        response(ca, 1, &[sha256, odd(false), Single::of(bob, ca, Status::Good)], &[]),
        response(ca, 1, &[odd(true)], &[]),
        response(ca, 1, &[old], &[]),
        response(ca, 1, &many, &[]),
        response(ca, 9, &[of(Status::Good)], &[]),
        response(alice, 2, &[of(Status::Good)], std::slice::from_ref(alice)),
        response(&for_mail, 4, &[of(Status::Good)], std::slice::from_ref(&for_mail)),
        // That one may; but whether it was revoked is not known.
        response(&for_ocsp, 4, &[of(Status::Good)], &[for_mail, for_ocsp.clone(), bob.clone()]),
        response(&stranger, 4, &[of(Status::Good)], std::slice::from_ref(&stranger)),
        vec![0x30, 3, 0x0A, 1, 3],
    ]
}

/// Leaf, issuers and what does not belong there, one after the other.
fn paths() -> Vec<Vec<u8>> {
    let ca = certificate("ca");
    let join =
        |chain: &[&Certificate]| chain.iter().flat_map(|c| c.der().iter().copied()).collect::<Vec<u8>>();
    let mut seeds: Vec<Vec<u8>> = certificates().iter().map(|leaf| join(&[leaf, &ca])).collect();
    let constrained = certificate("constrained");
    seeds.extend(["inside", "outside"].map(|name| join(&[&certificate(name), &constrained])));
    seeds.push(join(&[&certificate("too-deep"), &certificate("subca"), &ca]));
    let crossed: Vec<_> = (0..8).map(hostile::of_one_key).collect();
    seeds.push(join(&crossed.iter().collect::<Vec<_>>()));
    seeds
}
