//! Where the milter tells of itself: on this machine only, unless more is allowed.

use testkit::{Lab, programs};

#[test]
fn an_address_that_others_can_reach_is_refused_unless_they_are_allowed_to() {
    let mut lab = Lab::new("openmetrics").unwrap();
    for (listen, more, code) in [
        ("inet:0.0.0.0:9464", "", 2),
        ("inet:192.0.2.1:9464", "", 2),
        ("inet6:[::]:9464", "", 2),
        ("127.0.0.1:9464", "", 2),
        ("inet:127.0.0.1:9464", "", 0),
        ("inet6:[::1]:9464", "", 0),
        ("unix:/run/hsmime/metrics.sock", "", 0),
        ("inet:0.0.0.0:9464", "allow-remote = true", 0),
    ] {
        lab.config.metrics = Some(listen.to_owned());
        let toml = lab.config.to_toml().replace("[metrics]\n", &format!("[metrics]\n{more}\n"));
        let config = lab.workdir.file("metrics.toml", toml).unwrap();
        let finished = programs::run("hsmime-milter", &lab.token, &config, &["check-config"]).unwrap();
        assert_eq!(finished.code(), Some(code), "{listen} {more}: {finished:?}");
    }
}
