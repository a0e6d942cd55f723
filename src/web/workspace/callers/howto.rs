//! How a program is made to use a caller's token: lines to paste. Pure; the values are those that
//! `countersign env` sets, cut to what each kind of program reads.

use std::net::SocketAddr;

use crate::ids::CallerId;

/// What the lines are about.
pub struct Place<'a> {
    pub caller: &'a CallerId,
    pub token: &'a str,
    /// Where the proxy listens.
    pub proxy: SocketAddr,
    /// The host by which the reader reached this server, for a proxy that listens everywhere.
    pub visited: &'a str,
    /// This server's pages, without a slash at the end.
    pub base: &'a str,
}

/// One way, with its lines.
#[derive(Debug, PartialEq, Eq)]
pub struct Howto {
    pub id: &'static str,
    pub title: &'static str,
    pub lead: String,
    pub lines: String,
}

/// Roots of the system and ours in one file, which most clients need: their variables replace their
/// roots.
const BUNDLE: &str = "countersign-bundle.pem";
const NO_PROXY: &str = "localhost,127.0.0.1,::1";

impl Place<'_> {
    pub fn all(&self) -> Vec<Howto> {
        vec![self.shell(), self.docker(), self.kubernetes(), self.node(), self.python()]
    }

    /// `http://flow:cs_…@127.0.0.1:3128`: half of all clients need the scheme.
    fn url(&self) -> String {
        format!("http://{}:{}@{}", self.caller, self.token, self.address())
    }

    fn address(&self) -> String {
        match self.proxy.ip().is_unspecified() {
            true => format!("{}:{}", self.visited, self.proxy.port()),
            false => self.proxy.to_string(),
        }
    }

    fn is_local(&self) -> bool {
        self.proxy.ip().is_loopback()
    }

    fn bundle(&self) -> String {
        format!(
            "curl -fsS {}/ca.pem -o countersign-ca.pem\n\
             cat /etc/ssl/certs/ca-certificates.crt countersign-ca.pem > {BUNDLE}\n",
            self.base
        )
    }

    fn shell(&self) -> Howto {
        let Self { caller, token, .. } = self;
        let url = self.url();
        Howto {
            id: "shell",
            title: "Shell",
            lead: "Where countersign runs, one line sets everything that clients read. Elsewhere, set \
                   the proxy and the certificates yourself."
                .to_owned(),
            lines: format!(
                "# On this server\neval \"$(COUNTERSIGN_TOKEN={token} countersign env --caller {caller})\"\n\n\
                 # Elsewhere\n{}\
                 export HTTPS_PROXY={url}\n\
                 export HTTP_PROXY=$HTTPS_PROXY https_proxy=$HTTPS_PROXY http_proxy=$HTTPS_PROXY\n\
                 export NO_PROXY={NO_PROXY} no_proxy={NO_PROXY}\n\
                 export SSL_CERT_FILE=$PWD/{BUNDLE} CURL_CA_BUNDLE=$PWD/{BUNDLE}\n\
                 export REQUESTS_CA_BUNDLE=$PWD/{BUNDLE} NODE_EXTRA_CA_CERTS=$PWD/{BUNDLE}\n",
                self.bundle()
            ),
        }
    }

    fn docker(&self) -> Howto {
        // The proxy of this machine is not 127.0.0.1 in a container of its own network.
        let (network, lead) = match self.is_local() {
            true => (
                "--network host ",
                "The proxy listens on this machine's loopback only, so the container shares its network.",
            ),
            false => ("", "The container gets the proxy and a bundle of certificates."),
        };
        let url = self.url();
        Howto {
            id: "docker",
            title: "Docker",
            lead: lead.to_owned(),
            lines: format!(
                "{}docker run --rm {network}\\\n  \
                 -e HTTPS_PROXY={url} \\\n  -e HTTP_PROXY={url} \\\n  \
                 -e https_proxy={url} \\\n  -e http_proxy={url} \\\n  \
                 -e NO_PROXY={NO_PROXY} -e NODE_USE_ENV_PROXY=1 \\\n  \
                 -e SSL_CERT_FILE=/{BUNDLE} -e CURL_CA_BUNDLE=/{BUNDLE} \\\n  \
                 -e REQUESTS_CA_BUNDLE=/{BUNDLE} -e NODE_EXTRA_CA_CERTS=/{BUNDLE} \\\n  \
                 -v \"$PWD/{BUNDLE}:/{BUNDLE}:ro\" \\\n  IMAGE\n",
                self.bundle()
            ),
        }
    }

    fn kubernetes(&self) -> Howto {
        let lead = match self.is_local() {
            true => {
                "With countersign as a sidecar of the same pod, 127.0.0.1 is right. The token is in \
                     a Secret."
            }
            false => "The token is in a Secret, the certificates in a ConfigMap.",
        };
        let (name, url) =
            (self.caller.as_str().to_lowercase().replace(['_', '.'], "-"), self.url());
        let variables =
            ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"];
        let certificates: String = variables
            .iter()
            .map(|name| format!("      - {{ name: {name}, value: /countersign/{BUNDLE} }}\n"))
            .collect();
        Howto {
            id: "kubernetes",
            title: "Kubernetes",
            lead: lead.to_owned(),
            lines: format!(
                "{}kubectl create configmap countersign-ca --from-file={BUNDLE}\n\
                 kubectl create secret generic countersign-{name} --from-literal=url='{url}'\n\n\
                 # In the pod's spec\n\
                 containers:\n  - name: app\n    env:\n\
                 \x20     - {{ name: HTTPS_PROXY, valueFrom: {{ secretKeyRef: {{ name: countersign-{name}, key: url }} }} }}\n\
                 \x20     - {{ name: HTTP_PROXY, value: $(HTTPS_PROXY) }}\n\
                 \x20     - {{ name: https_proxy, value: $(HTTPS_PROXY) }}\n\
                 \x20     - {{ name: http_proxy, value: $(HTTPS_PROXY) }}\n\
                 \x20     - {{ name: NO_PROXY, value: \"{NO_PROXY},.svc,.cluster.local\" }}\n\
                 \x20     - {{ name: NODE_USE_ENV_PROXY, value: \"1\" }}\n\
                 {certificates}    volumeMounts:\n      - {{ name: countersign-ca, mountPath: /countersign }}\n\
                 volumes:\n  - {{ name: countersign-ca, configMap: {{ name: countersign-ca }} }}\n",
                self.bundle()
            ),
        }
    }

    fn node(&self) -> Howto {
        let url = self.url();
        Howto {
            id: "node",
            title: "Node",
            lead: "Node 22.21 and later, and 24. Node adds our CA to its own roots. Older versions need \
                   undici's EnvHttpProxyAgent."
                .to_owned(),
            lines: format!(
                "curl -fsS {}/ca.pem -o countersign-ca.pem\n\
                 NODE_USE_ENV_PROXY=1 \\\nHTTPS_PROXY={url} HTTP_PROXY={url} \\\n\
                 NODE_EXTRA_CA_CERTS=$PWD/countersign-ca.pem \\\nnode app.mjs\n",
                self.base
            ),
        }
    }

    fn python(&self) -> Howto {
        let url = self.url();
        Howto {
            id: "python",
            title: "Python",
            lead: "requests, httpx, urllib and boto3. aiohttp needs trust_env=True.".to_owned(),
            lines: format!(
                "{}HTTPS_PROXY={url} HTTP_PROXY={url} \\\n\
                 SSL_CERT_FILE=$PWD/{BUNDLE} \\\nREQUESTS_CA_BUNDLE=$PWD/{BUNDLE} \\\n\
                 AWS_CA_BUNDLE=$PWD/{BUNDLE} \\\npython app.py\n",
                self.bundle()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(proxy: &str) -> Vec<Howto> {
        let caller = "flow".parse().expect("a name");
        let proxy = proxy.parse().expect("an address");
        let (visited, base) = ("cs.acme.test", "https://cs.acme.test");
        Place { caller: &caller, token: "cs_t0ken", proxy, visited, base }.all()
    }

    #[test]
    fn every_way_names_the_proxy_as_its_program_reaches_it() {
        for (proxy, url) in [
            ("127.0.0.1:3128", "http://flow:cs_t0ken@127.0.0.1:3128"),
            ("[::1]:3128", "http://flow:cs_t0ken@[::1]:3128"),
            ("0.0.0.0:3128", "http://flow:cs_t0ken@cs.acme.test:3128"),
            ("[::]:8", "http://flow:cs_t0ken@cs.acme.test:8"),
            ("192.0.2.7:3128", "http://flow:cs_t0ken@192.0.2.7:3128"),
        ] {
            for howto in lines(proxy) {
                assert!(howto.lines.contains(url), "{proxy}: {}", howto.lines);
                assert!(howto.lines.contains("https://cs.acme.test/ca.pem"), "{}", howto.lines);
            }
        }
    }

    #[test]
    fn a_container_shares_the_network_only_where_it_must() {
        let docker = |proxy| lines(proxy).remove(1).lines.contains("--network host");
        assert!(docker("127.0.0.1:3128") && !docker("0.0.0.0:3128"));
    }
}
