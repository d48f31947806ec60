// BouncyCastle's CMS as a server on standard input and output: one JVM for all questions.
//
// A question is a count and so many fields, each a length and octets; the first is the verb, the others are named at
// the verb. The answer is one octet (0 done, 1 failed) and one field: the result, or the exception and its causes.
// Debian: libbcmail-java and a JDK; run as a single source file.

import java.io.*;
import java.nio.charset.StandardCharsets;
import java.security.*;
import java.security.cert.*;
import java.security.spec.MGF1ParameterSpec;
import java.security.spec.PKCS8EncodedKeySpec;
import java.security.spec.PSSParameterSpec;
import java.util.*;
import org.bouncycastle.asn1.*;
import org.bouncycastle.asn1.pkcs.*;
import org.bouncycastle.asn1.x509.AlgorithmIdentifier;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.cert.jcajce.*;
import org.bouncycastle.cms.*;
import org.bouncycastle.cms.jcajce.*;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.operator.*;
import org.bouncycastle.operator.jcajce.*;
import org.bouncycastle.util.CollectionStore;
import org.bouncycastle.util.Store;

public class BouncyCastle {
    private final List<byte[]> fields;
    private int next = 1;

    private BouncyCastle(List<byte[]> fields) {
        this.fields = fields;
    }

    public static void main(String[] arguments) throws Exception {
        Security.addProvider(new BouncyCastleProvider());
        DataInputStream in = new DataInputStream(new BufferedInputStream(System.in));
        DataOutputStream out = new DataOutputStream(new BufferedOutputStream(System.out));
        // Whatever a library prints must not get between the answers.
        System.setOut(System.err);
        while (true) {
            List<byte[]> fields = new ArrayList<>();
            try {
                for (int count = in.readInt(); fields.size() < count; ) {
                    byte[] field = new byte[in.readInt()];
                    in.readFully(field);
                    fields.add(field);
                }
            } catch (EOFException end) {
                return;
            }
            byte[] answer;
            int failed = 0;
            try {
                answer = new BouncyCastle(fields).answer();
            } catch (Throwable error) {
                StringBuilder words = new StringBuilder();
                for (Throwable cause = error; cause != null; cause = cause.getCause()) {
                    words.append(words.length() == 0 ? "" : ": ").append(cause);
                }
                answer = words.toString().getBytes(StandardCharsets.UTF_8);
                failed = 1;
            }
            out.writeByte(failed);
            out.writeInt(answer.length);
            out.write(answer);
            out.flush();
        }
    }

    private byte[] answer() throws Exception {
        String verb = new String(fields.get(0), StandardCharsets.UTF_8);
        switch (verb) {
            case "version": return Double.toString(new BouncyCastleProvider().getVersion()).getBytes();
            case "sign": return sign();
            case "verify": return verify();
            case "certificates-only": return certificatesOnly();
            case "certificates": return certificates();
            case "encrypt": return encrypt();
            case "decrypt": return decrypt();
            case "compress": return compress();
            case "decompress":
                return new CMSCompressedData(octets()).getContent(new ZlibExpanderProvider());
            default: throw new IllegalArgumentException("no verb " + verb);
        }
    }

    private boolean more() {
        return next < fields.size();
    }

    private byte[] octets() {
        return fields.get(next++);
    }

    private String word() {
        return new String(octets(), StandardCharsets.UTF_8);
    }

    private X509Certificate certificate() throws Exception {
        return (X509Certificate) CertificateFactory.getInstance("X.509", "BC")
            .generateCertificate(new ByteArrayInputStream(octets()));
    }

    private static PrivateKey key(X509Certificate certificate, byte[] pkcs8) throws Exception {
        return KeyFactory.getInstance(certificate.getPublicKey().getAlgorithm(), "BC")
            .generatePrivate(new PKCS8EncodedKeySpec(pkcs8));
    }

    private static byte[] identifier(X509Certificate certificate) {
        return ASN1OctetString.getInstance(
            ASN1OctetString.getInstance(certificate.getExtensionValue("2.5.29.14")).getOctets()).getOctets();
    }

    /**
     * content, detached|opaque, der|ber, attributes|bare|countersigned, issuer|ski, chain's certificate,
     * (algorithm, certificate, key)…: the last of these countersigns, if anybody does
     */
    private byte[] sign() throws Exception {
        byte[] content = octets();
        boolean opaque = word().equals("opaque");
        boolean ber = word().equals("ber");
        String form = word();
        boolean bare = form.equals("bare");
        boolean ski = word().equals("ski");
        List<X509CertificateHolder> certificates = new ArrayList<>();
        certificates.add(new JcaX509CertificateHolder(certificate()));
        List<SignerInfoGenerator> signers = new ArrayList<>();
        while (more()) {
            String algorithm = word();
            X509Certificate certificate = certificate();
            ContentSigner signer = signer(algorithm).setProvider("BC").build(key(certificate, octets()));
            JcaSignerInfoGeneratorBuilder builder = new JcaSignerInfoGeneratorBuilder(
                new JcaDigestCalculatorProviderBuilder().setProvider("BC").build());
            builder.setDirectSignature(bare);
            signers.add(ski ? builder.build(signer, identifier(certificate)) : builder.build(signer, certificate));
            certificates.add(new JcaX509CertificateHolder(certificate));
        }
        SignerInfoGenerator countersigner = form.equals("countersigned") ? signers.remove(signers.size() - 1) : null;
        Store<X509CertificateHolder> store = new CollectionStore<>(certificates);
        if (ber) {
            CMSSignedDataStreamGenerator generator = new CMSSignedDataStreamGenerator();
            generator.setBufferSize(20);
            generator.addCertificates(store);
            for (SignerInfoGenerator signer : signers) generator.addSignerInfoGenerator(signer);
            ByteArrayOutputStream object = new ByteArrayOutputStream();
            try (OutputStream stream = generator.open(object, opaque)) {
                stream.write(content);
            }
            return object.toByteArray();
        }
        CMSSignedDataGenerator generator = new CMSSignedDataGenerator();
        generator.addCertificates(store);
        for (SignerInfoGenerator signer : signers) generator.addSignerInfoGenerator(signer);
        CMSSignedData signed = generator.generate(new CMSProcessableByteArray(content), opaque);
        if (countersigner != null) {
            List<SignerInformation> countersigned = new ArrayList<>();
            for (SignerInformation signer : signed.getSignerInfos().getSigners()) {
                CMSSignedDataGenerator counter = new CMSSignedDataGenerator();
                counter.addSignerInfoGenerator(countersigner);
                countersigned.add(SignerInformation.addCounterSigners(signer, counter.generateCounterSigners(signer)));
            }
            signed = CMSSignedData.replaceSigners(signed, new SignerInformationStore(countersigned));
        }
        return signed.toASN1Structure().getEncoded("DER");
    }

    /** "SHA256 salt 222" is RSASSA-PSS with a salt of so many octets; all else are Java's names. */
    private static JcaContentSignerBuilder signer(String algorithm) {
        String[] words = algorithm.split(" ");
        if (words.length == 1) return new JcaContentSignerBuilder(algorithm);
        String hash = words[0].replace("SHA", "SHA-");
        return new JcaContentSignerBuilder(words[0] + "withRSAandMGF1",
            new PSSParameterSpec(hash, "MGF1", new MGF1ParameterSpec(hash), Integer.parseInt(words[2]), 1));
    }

    /** object, detached content or nothing, root: the content. */
    private byte[] verify() throws Exception {
        byte[] object = octets();
        byte[] detached = octets();
        X509Certificate root = certificate();
        CMSSignedData signed = detached.length == 0
            ? new CMSSignedData(object)
            : new CMSSignedData(new CMSProcessableByteArray(detached), object);
        Collection<SignerInformation> signers = signed.getSignerInfos().getSigners();
        if (signers.isEmpty()) throw new CMSException("no signer");
        JcaX509CertificateConverter converter = new JcaX509CertificateConverter().setProvider("BC");
        List<X509Certificate> all = new ArrayList<>();
        for (X509CertificateHolder holder : signed.getCertificates().getMatches(null)) all.add(converter.getCertificate(holder));
        for (SignerInformation signer : signers) {
            @SuppressWarnings("unchecked")
            Collection<X509CertificateHolder> named = signed.getCertificates().getMatches(signer.getSID());
            if (named.isEmpty()) throw new CMSException("no certificate of the signer");
            X509Certificate certificate = converter.getCertificate(named.iterator().next());
            if (!signer.verify(new JcaSimpleSignerInfoVerifierBuilder().setProvider("BC").build(certificate))) {
                throw new CMSException("the signature does not verify");
            }
            X509CertSelector target = new X509CertSelector();
            target.setCertificate(certificate);
            PKIXBuilderParameters path = new PKIXBuilderParameters(Collections.singleton(new TrustAnchor(root, null)), target);
            path.setRevocationEnabled(false);
            path.addCertStore(CertStore.getInstance("Collection", new CollectionCertStoreParameters(all), "BC"));
            CertPathBuilder.getInstance("PKIX", "BC").build(path);
        }
        return (byte[]) signed.getSignedContent().getContent();
    }

    /** certificates… */
    private byte[] certificatesOnly() throws Exception {
        List<X509CertificateHolder> certificates = new ArrayList<>();
        while (more()) certificates.add(new JcaX509CertificateHolder(certificate()));
        CMSSignedDataGenerator generator = new CMSSignedDataGenerator();
        generator.addCertificates(new CollectionStore<>(certificates));
        return generator.generate(new CMSAbsentContent(), false).getEncoded();
    }

    /** object: its certificates, sorted, one after the other. */
    private byte[] certificates() throws Exception {
        CMSSignedData signed = new CMSSignedData(octets());
        if (signed.getSignerInfos().size() != 0) throw new CMSException("there is a signer");
        List<byte[]> certificates = new ArrayList<>();
        for (X509CertificateHolder holder : signed.getCertificates().getMatches(null)) certificates.add(holder.getEncoded());
        certificates.sort(Arrays::compareUnsigned);
        ByteArrayOutputStream all = new ByteArrayOutputStream();
        for (byte[] certificate : certificates) all.write(certificate);
        return all.toByteArray();
    }

    /**
     * content, cipher, key bits or 0, der|ber|auth (AuthEnvelopedData),
     * (pkcs1|oaep HASH[/HASH of MGF1] [LABEL]|ecdh KDF WRAP|password|kek, issuer|ski, certificate)…
     */
    private byte[] encrypt() throws Exception {
        byte[] content = octets();
        ASN1ObjectIdentifier cipher = algorithm(word());
        int bits = Integer.parseInt(word());
        String form = word();
        List<RecipientInfoGenerator> recipients = new ArrayList<>();
        while (more()) {
            String[] how = word().split(" ");
            boolean ski = word().equals("ski");
            recipients.add(recipient(how, ski, certificate()));
        }
        JceCMSContentEncryptorBuilder builder = bits == 0
            ? new JceCMSContentEncryptorBuilder(cipher)
            : new JceCMSContentEncryptorBuilder(cipher, bits);
        OutputEncryptor encryptor = builder.setProvider("BC").build();
        if (form.equals("auth")) {
            CMSAuthEnvelopedDataGenerator generator = new CMSAuthEnvelopedDataGenerator();
            for (RecipientInfoGenerator recipient : recipients) generator.addRecipientInfoGenerator(recipient);
            return generator.generate(new CMSProcessableByteArray(content), (OutputAEADEncryptor) encryptor).getEncoded();
        }
        if (form.equals("ber")) {
            CMSEnvelopedDataStreamGenerator generator = new CMSEnvelopedDataStreamGenerator();
            generator.setBufferSize(20);
            for (RecipientInfoGenerator recipient : recipients) generator.addRecipientInfoGenerator(recipient);
            ByteArrayOutputStream object = new ByteArrayOutputStream();
            try (OutputStream stream = generator.open(object, encryptor)) {
                stream.write(content);
            }
            return object.toByteArray();
        }
        CMSEnvelopedDataGenerator generator = new CMSEnvelopedDataGenerator();
        for (RecipientInfoGenerator recipient : recipients) generator.addRecipientInfoGenerator(recipient);
        return generator.generate(new CMSProcessableByteArray(content), encryptor).toASN1Structure().getEncoded("DER");
    }

    /** A public constant of CMSAlgorithm by its name, or a dotted object identifier. */
    private static ASN1ObjectIdentifier algorithm(String name) throws Exception {
        if (Character.isDigit(name.charAt(0))) return new ASN1ObjectIdentifier(name);
        return (ASN1ObjectIdentifier) CMSAlgorithm.class.getField(name).get(null);
    }

    private static RecipientInfoGenerator recipient(String[] how, boolean ski, X509Certificate certificate) throws Exception {
        PublicKey key = certificate.getPublicKey();
        switch (how[0]) {
            case "pkcs1":
                return (ski ? new JceKeyTransRecipientInfoGenerator(identifier(certificate), key)
                            : new JceKeyTransRecipientInfoGenerator(certificate)).setProvider("BC");
            case "oaep": {
                String[] hashes = how[1].split("/");
                AlgorithmIdentifier hash = new AlgorithmIdentifier(algorithm(hashes[0]), DERNull.INSTANCE);
                AlgorithmIdentifier mask = new AlgorithmIdentifier(algorithm(hashes[hashes.length - 1]), DERNull.INSTANCE);
                AlgorithmIdentifier oaep = new AlgorithmIdentifier(PKCSObjectIdentifiers.id_RSAES_OAEP, new RSAESOAEPparams(
                    hash, new AlgorithmIdentifier(PKCSObjectIdentifiers.id_mgf1, mask), how.length < 3
                        ? RSAESOAEPparams.DEFAULT_P_SOURCE_ALGORITHM
                        : new AlgorithmIdentifier(PKCSObjectIdentifiers.id_pSpecified, new DEROctetString(how[2].getBytes()))));
                return (ski ? new JceKeyTransRecipientInfoGenerator(identifier(certificate), oaep, key)
                            : new JceKeyTransRecipientInfoGenerator(certificate, oaep)).setProvider("BC");
            }
            case "ecdh": {
                KeyPair sender = null;
                if (!key.getAlgorithm().startsWith("X")) {
                    KeyPairGenerator pairs = KeyPairGenerator.getInstance("EC", "BC");
                    pairs.initialize(((java.security.interfaces.ECPublicKey) key).getParams());
                    sender = pairs.generateKeyPair();
                } else {
                    sender = KeyPairGenerator.getInstance(key.getAlgorithm(), "BC").generateKeyPair();
                }
                JceKeyAgreeRecipientInfoGenerator generator = new JceKeyAgreeRecipientInfoGenerator(
                    algorithm(how[1]), sender.getPrivate(), sender.getPublic(),
                    algorithm(how[2])).setProvider("BC");
                return ski ? generator.addRecipient(identifier(certificate), key) : generator.addRecipient(certificate);
            }
            case "password":
                return new JcePasswordRecipientInfoGenerator(CMSAlgorithm.AES256_CBC, "secret".toCharArray()).setProvider("BC");
            case "kek":
                return new JceKEKRecipientInfoGenerator(new byte[] {1, 2},
                    new javax.crypto.spec.SecretKeySpec(new byte[16], "AES")).setProvider("BC");
            default: throw new IllegalArgumentException("no way " + how[0]);
        }
    }

    /** object, certificate, key: the content. */
    private byte[] decrypt() throws Exception {
        byte[] object = octets();
        X509Certificate certificate = certificate();
        PrivateKey key = key(certificate, octets());
        boolean authenticated = org.bouncycastle.asn1.cms.ContentInfo.getInstance(object).getContentType()
            .equals(org.bouncycastle.asn1.cms.CMSObjectIdentifiers.authEnvelopedData);
        RecipientInformationStore recipients = authenticated
            ? new CMSAuthEnvelopedData(object).getRecipientInfos()
            : new CMSEnvelopedData(object).getRecipientInfos();
        boolean agreed = !key.getAlgorithm().equals("RSA");
        RecipientId id = agreed ? new JceKeyAgreeRecipientId(certificate) : new JceKeyTransRecipientId(certificate);
        RecipientInformation recipient = recipients.get(id);
        if (recipient == null && agreed) recipient = recipients.get(new KeyAgreeRecipientId(identifier(certificate)));
        if (recipient == null) throw new CMSException("no recipient is named by the certificate");
        if (agreed) return recipient.getContent(new JceKeyAgreeEnvelopedRecipient(key).setProvider("BC"));
        JceKeyTransRecipient transport = authenticated
            ? new JceKeyTransAuthEnvelopedRecipient(key)
            : new JceKeyTransEnvelopedRecipient(key);
        return recipient.getContent(transport.setProvider("BC"));
    }

    /** content, der|ber */
    private byte[] compress() throws Exception {
        byte[] content = octets();
        if (!word().equals("ber")) {
            return new CMSCompressedDataGenerator().generate(new CMSProcessableByteArray(content), new ZlibCompressor()).getEncoded();
        }
        ByteArrayOutputStream object = new ByteArrayOutputStream();
        try (OutputStream stream = new CMSCompressedDataStreamGenerator().open(object, new ZlibCompressor())) {
            stream.write(content);
        }
        return object.toByteArray();
    }
}
