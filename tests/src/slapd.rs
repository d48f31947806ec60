//! A private LDAP directory: Debian's `slapd`, in a folder of the test and on ports of loopback.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Result;

use crate::{Workdir, command, wait};

/// The suffix of the directory.
pub const BASE: &str = "dc=example,dc=org";
/// Who may bind, with [`PASSWORD`]; it alone reads what is below `ou=private`.
pub const BIND_DN: &str = "cn=reader,dc=example,dc=org";
/// The password of [`BIND_DN`].
pub const PASSWORD: &str = "s3cret";

/// A directory that is ended when this is dropped.
#[derive(Debug)]
pub struct Slapd {
    child: Child,
    plain: u16,
    tls: u16,
    authority: PathBuf,
}

impl Slapd {
    /// Starts a directory with these entries (LDIF) below [`BASE`], which is there already with `ou=people` and
    /// `ou=private`.
    pub fn start(workdir: &Workdir, entries: &str) -> Result<Self> {
        let folder = workdir.directory("ldap")?;
        fs::create_dir(folder.join("database"))?;
        let authority = certificates(&folder)?;
        let here = folder.display();
        let config = format!(
            "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n\
             include /etc/ldap/schema/inetorgperson.schema\npidfile {here}/slapd.pid\n\
             TLSCACertificateFile {here}/ca.pem\nTLSCertificateFile {here}/server.pem\n\
             TLSCertificateKeyFile {here}/server.key\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n\
             database mdb\nmaxsize 10485760\nsuffix \"{BASE}\"\ndirectory {here}/database\nindex mail eq\n\
             access to dn.subtree=\"ou=private,{BASE}\" by users read by * none\n\
             access to attrs=userPassword by anonymous auth by * none\naccess to * by * read\n"
        );
        fs::write(folder.join("slapd.conf"), config)?;
        let base = format!(
            "dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n\n\
             dn: ou=people,{BASE}\nobjectClass: organizationalUnit\nou: people\n\n\
             dn: ou=private,{BASE}\nobjectClass: organizationalUnit\nou: private\n\n\
             dn: {BIND_DN}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: reader\n\
             userPassword: {PASSWORD}\n\n{entries}\n"
        );
        fs::write(folder.join("entries.ldif"), base)?;
        let mut load = Command::new("/usr/sbin/slapadd");
        load.arg("-q").arg("-f").arg(folder.join("slapd.conf")).arg("-l").arg(folder.join("entries.ldif"));
        command::succeed("slapd", &mut load)?;
        let (plain, tls) = (wait::free_port()?, wait::free_port()?);
        let urls = format!("ldap://127.0.0.1:{plain}/ ldaps://127.0.0.1:{tls}/");
        let log = fs::File::create(folder.with_file_name("slapd.log"))?;
        let mut command = Command::new("/usr/sbin/slapd");
        // -d keeps it in the foreground.
        command.args(["-d", "0", "-h", &urls, "-f"]).arg(folder.join("slapd.conf"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().map_err(|error| command::not_started("slapd", &command, &error))?;
        let slapd = Self { child, plain, tls, authority };
        for port in [plain, tls] {
            let connect = || Ok(TcpStream::connect(("127.0.0.1", port)).ok());
            wait::until("the LDAP directory", Duration::from_secs(10), connect)?;
        }
        Ok(slapd)
    }

    /// The URL without TLS from the beginning; StartTLS is offered there.
    pub fn ldap(&self) -> String {
        format!("ldap://localhost:{}", self.plain)
    }

    /// The URL with TLS.
    pub fn ldaps(&self) -> String {
        format!("ldaps://localhost:{}", self.tls)
    }

    /// The authority of its certificate, which is for `localhost`.
    pub fn authority(&self) -> &Path {
        &self.authority
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An authority, and a certificate of it for `localhost`.
fn certificates(folder: &Path) -> Result<PathBuf> {
    let openssl = |line: &str| {
        let mut command = Command::new("openssl");
        command.current_dir(folder).args(line.split(' '));
        command::succeed("openssl", &mut command)
    };
    fs::write(folder.join("server.cnf"), "subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\n")?;
    let ec = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!("req -x509 {ec} -keyout ca.key -out ca.pem -subj /CN=directory-ca -days 3650"))?;
    openssl(&format!("req {ec} -keyout server.key -out server.csr -subj /CN=localhost"))?;
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -extfile server.cnf -out server.pem",
    )?;
    Ok(folder.join("ca.pem"))
}
