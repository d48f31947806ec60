// Makes bc-gcm.p7m, bc-gcm-ber.p7m and bc.p7z with BouncyCastle (Debian's libbcmail-java):
// java -cp /usr/share/java/bcprov.jar:/usr/share/java/bcpkix.jar:/usr/share/java/bcmail.jar:/usr/share/java/bcutil.jar \
//     Peers.java entity.txt bob.pem bc-gcm.p7m bc-gcm-ber.p7m bc.p7z
import java.io.*; import java.nio.file.*; import java.security.*; import java.security.cert.*;
import org.bouncycastle.cms.*; import org.bouncycastle.cms.jcajce.*; import org.bouncycastle.jce.provider.BouncyCastleProvider;
public class Peers {
  public static void main(String[] a) throws Exception {
    Security.addProvider(new BouncyCastleProvider());
    byte[] content = Files.readAllBytes(Paths.get(a[0]));
    X509Certificate bob = (X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(new FileInputStream(a[1]));
    CMSEnvelopedDataGenerator g = new CMSEnvelopedDataGenerator();
    g.addRecipientInfoGenerator(new JceKeyTransRecipientInfoGenerator(bob).setProvider("BC"));
    CMSEnvelopedData d = g.generate(new CMSProcessableByteArray(content), new JceCMSContentEncryptorBuilder(CMSAlgorithm.AES128_GCM).setProvider("BC").build());
    Files.write(Paths.get(a[2]), d.getEncoded());
    CMSEnvelopedDataStreamGenerator s = new CMSEnvelopedDataStreamGenerator();
    s.setBufferSize(20);
    s.addRecipientInfoGenerator(new JceKeyTransRecipientInfoGenerator(bob).setProvider("BC"));
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    OutputStream o = s.open(out, new JceCMSContentEncryptorBuilder(CMSAlgorithm.AES256_GCM).setProvider("BC").build());
    o.write(content); o.close();
    Files.write(Paths.get(a[3]), out.toByteArray());
    CMSCompressedDataGenerator c = new CMSCompressedDataGenerator();
    Files.write(Paths.get(a[4]), c.generate(new CMSProcessableByteArray(content), new org.bouncycastle.cms.jcajce.ZlibCompressor()).getEncoded());
  }
}
