// Makes pkijs-gcm.p7m with PKI.js (npm install pkijs@3 asn1js): node peers.js entity.txt bob.pem pkijs-gcm.p7m
const pkijs=require('pkijs'), asn1js=require('asn1js'), fs=require('fs'), {webcrypto}=require('crypto');
pkijs.setEngine('node', new pkijs.CryptoEngine({name:'node', crypto: webcrypto, subtle: webcrypto.subtle}));
(async()=>{
 const [,,content,cert,out]=process.argv;
 const pem=fs.readFileSync(cert,'latin1').match(/-----BEGIN CERTIFICATE-----([^-]*)-----END/)[1];
 const der=Buffer.from(pem,'base64'); const ab=der.buffer.slice(der.byteOffset,der.byteOffset+der.length);
 const c=pkijs.Certificate.fromBER(ab);
 const env=new pkijs.EnvelopedData({originatorInfo:new pkijs.OriginatorInfo({certs:new pkijs.CertificateSet({certificates:[]})})});
 env.addRecipientByCertificate(c,{oaepHashAlgorithm:'SHA-256'});
 const data=fs.readFileSync(content); const dab=data.buffer.slice(data.byteOffset,data.byteOffset+data.length);
 await env.encrypt({name:'AES-GCM',length:256},dab);
 const ci=new pkijs.ContentInfo({contentType:'1.2.840.113549.1.7.3',content:env.toSchema()});
 fs.writeFileSync(out,Buffer.from(ci.toSchema().toBER(false)));
})().catch(e=>{console.error(e);process.exit(1)});
