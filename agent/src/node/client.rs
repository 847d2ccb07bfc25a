use super::Options;
use super::error::{NodeError, words};
use super::sight::Seen;
use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use kube::api::{ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::PartialObjectMeta;
use kube::runtime::events::{Event, Recorder, Reporter};
use kube::{Api, Client, Config};
use pointsman_core::keys::Annotations;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;

/// Owner of the agent's annotations in `metadata.managedFields`.
const FIELD_MANAGER: &str = "pointsman";
/// An API server on the same network answers in milliseconds or not at all.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long a connection may be silent. Every call has a shorter limit of its own and
/// the watch has one too (`super::watch`); this is for what outlives its caller.
const SILENCE_LIMIT: Duration = Duration::from_secs(180);

pub(super) const READ: &str = "read";
pub(super) const WATCH: &str = "watch";
const APPLY: &str = "write the report to";
const RECORD: &str = "record an Event about";

/// Nothing but metadata crosses the wire: a Node's status, with its images, is large.
pub(super) type NodeMeta = PartialObjectMeta<Node>;
pub(super) type Events = BoxStream<'static, kube::Result<WatchEvent<NodeMeta>>>;

/// Calls about one Node, each with a deadline.
pub(super) struct NodeApi {
    options: Options,
    connection: watch::Sender<Connection>,
}

#[derive(Clone)]
struct Connection {
    client: Client,
    /// Counts up a series where the same Event comes again within minutes.
    recorder: Recorder,
    server: String,
}

impl fmt::Debug for NodeApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeApi").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Woken when the client was replaced.
pub(super) struct Rebuilt(watch::Receiver<Connection>);

impl Rebuilt {
    pub(super) async fn wait(&mut self) {
        if self.0.changed().await.is_err() {
            // the client is gone, and its user with it
            std::future::pending::<()>().await;
        }
    }
}

impl NodeApi {
    pub(super) async fn new(options: Options) -> Result<Self, NodeError> {
        let named = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if options.node.is_empty() || !options.node.chars().all(named) {
            return Err(NodeError::Name(options.node));
        }
        let (connection, _) = watch::channel(connection(&options).await?);
        Ok(Self { options, connection })
    }

    pub(super) async fn rebuild(&self) -> Result<(), NodeError> {
        let fresh = connection(&self.options).await?;
        self.connection.send_replace(fresh);
        Ok(())
    }

    pub(super) fn rebuilt(&self) -> Rebuilt {
        Rebuilt(self.connection.subscribe())
    }

    pub(super) fn node(&self) -> &str {
        &self.options.node
    }

    pub(super) fn server(&self) -> String {
        self.connection.borrow().server.clone()
    }

    fn api(&self) -> Api<NodeMeta> {
        Api::all(self.connection.borrow().client.clone())
    }

    fn selector(&self) -> String {
        format!("metadata.name={}", self.options.node)
    }

    pub(super) async fn read(&self) -> Result<Seen, NodeError> {
        let api = self.api();
        let found = self.within(READ, api.get(&self.options.node)).await?;
        Ok(Seen::of(&found))
    }

    /// The Node, if it exists, and the version of the collection to watch from.
    pub(super) async fn list(&self) -> Result<(Option<Seen>, String), NodeError> {
        let api = self.api();
        let params = ListParams::default().fields(&self.selector());
        let list = self.within(WATCH, api.list(&params)).await?;
        let version = list.metadata.resource_version.unwrap_or_default();
        Ok((list.items.first().map(Seen::of), version))
    }

    pub(super) async fn watch(&self, version: &str) -> Result<Events, NodeError> {
        let api = self.api();
        let params = WatchParams::default().fields(&self.selector());
        let events = self.within(WATCH, api.watch(&params, version)).await?;
        Ok(events.boxed())
    }

    /// Makes exactly these annotations ours, on the Node of this uid and on no other.
    pub(super) async fn apply(&self, uid: &str, ours: &Annotations) -> Result<Seen, NodeError> {
        let api = self.api();
        let name = &self.options.node;
        let body = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": name, "uid": uid, "annotations": ours },
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(body);
        let written = self.within(APPLY, api.patch(name, &params, &patch)).await?;
        Ok(Seen::of(&written))
    }

    /// Leaves an Event in the namespace `default`, where those about Nodes are.
    pub(super) async fn record(
        &self,
        event: &Event,
        about: &ObjectReference,
    ) -> Result<(), NodeError> {
        let recorder = self.connection.borrow().recorder.clone();
        self.within(RECORD, recorder.publish(event, about)).await
    }

    async fn within<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, NodeError> {
        let limit = self.options.call_limit;
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer.map_err(|error| self.failed(operation, error)),
            Err(_elapsed) => {
                let (node, server) = (self.options.node.clone(), self.server());
                Err(NodeError::TimedOut { operation, node, server, limit })
            }
        }
    }

    /// An answer of success to a write that tells of something else than what was written.
    pub(super) fn beside_the_point(&self) -> NodeError {
        let (node, server) = (self.options.node.clone(), self.server());
        let source = "the answer is not about this Node".into();
        NodeError::Unreachable { operation: APPLY, node, server, source }
    }

    pub(super) fn failed(&self, operation: &'static str, error: kube::Error) -> NodeError {
        let node = self.options.node.clone();
        match error {
            kube::Error::Api(status) if status.code == 404 => {
                NodeError::Missing { operation, node }
            }
            kube::Error::Api(status) => {
                let message = words(&status.message);
                NodeError::Denied { operation, node, code: status.code, message }
            }
            other => {
                let server = self.server();
                NodeError::Unreachable { operation, node, server, source: Box::new(other) }
            }
        }
    }
}

async fn connection(options: &Options) -> Result<Connection, NodeError> {
    let from = || match &options.kubeconfig {
        Some(path) => path.display().to_string(),
        None => "the pod's environment".to_owned(),
    };
    let unusable =
        |source: Box<dyn Error + Send + Sync>| NodeError::Config { from: from(), source };
    let mut config = config(options).await.map_err(unusable)?;
    let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    config.connect_timeout = Some(CONNECT_LIMIT);
    config.write_timeout = Some(options.call_limit);
    config.read_timeout = Some(SILENCE_LIMIT);
    config.reset_reader_on_write = true;
    // else a 429 or 503 is tried 15 times inside one call, for minutes
    config.default_retry = false;
    let client = Client::try_from(config).map_err(|error| unusable(Box::new(error)))?;
    let reporter =
        Reporter { controller: FIELD_MANAGER.into(), instance: Some(options.node.clone()) };
    let recorder = Recorder::new(client.clone(), reporter);
    Ok(Connection { client, recorder, server })
}

async fn config(options: &Options) -> Result<Config, Box<dyn Error + Send + Sync>> {
    let Some(path) = &options.kubeconfig else { return Ok(Config::incluster()?) };
    let kubeconfig = Kubeconfig::read_from(path)?;
    let proxied = kubeconfig
        .clusters
        .iter()
        .any(|named| named.cluster.as_ref().is_some_and(|cluster| cluster.proxy_url.is_some()));
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    if !proxied {
        // taken from the environment, which is for other programs
        config.proxy_url = None;
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_core::error::{Reasoned, chain};

    /// Of nobody, valid until 2126.
    const CA: &str = "-----BEGIN CERTIFICATE-----\n\
MIIBeDCCAR+gAwIBAgIUHZdHfrxE2DqEGnIsKSh/uJKJFoMwCgYIKoZIzj0EAwIw\n\
ETEPMA0GA1UEAwwGbm9ib2R5MCAXDTI2MTEyMjE2NDc1MVoYDzIxMjYxMDI5MTY0\n\
NzUxWjARMQ8wDQYDVQQDDAZub2JvZHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC\n\
AAQw07kewhEMZ8ut3+Gk89PqVsoXSa8/31AMUTqB9PrZuRFpuBZMNx/9PI4TXUzf\n\
BoQmxusTST8wIVkXs44HIaGHo1MwUTAdBgNVHQ4EFgQUDQqFDKmLQBSd+K0R7N4f\n\
WaSrxGIwHwYDVR0jBBgwFoAUDQqFDKmLQBSd+K0R7N4fWaSrxGIwDwYDVR0TAQH/\n\
BAUwAwEB/zAKBggqhkjOPQQDAgNHADBEAiB2C0e6pDpOFC/Ef2ssBMDf4qqdzuix\n\
GO9BGDISUDeigAIgMkFECzWZrWy+u8CYc1vTHilFwDZjumm+pFrOzLUhAMU=\n\
-----END CERTIFICATE-----\n";

    fn options(node: &str, kubeconfig: &std::path::Path) -> Options {
        Options { kubeconfig: Some(kubeconfig.to_owned()), ..Options::in_cluster(node) }
    }

    /// rustls panics where the build holds two crypto providers, or none, and nobody
    /// has chosen: this fails as soon as a dependency brings another one along.
    #[tokio::test]
    async fn the_crypto_provider_is_unambiguous() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.crt");
        crate::disk::write_whole(&ca, 0o600, CA.as_bytes()).unwrap();
        let kubeconfig = dir.path().join("kubeconfig");
        let text = serde_json::json!({
            "current-context": "c",
            "clusters": [{ "name": "c", "cluster": {
                "server": "https://192.0.2.1:6443/", "certificate-authority": ca } }],
            "users": [{ "name": "u", "user": { "token": "t" } }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        });
        crate::disk::write_whole(&kubeconfig, 0o600, text.to_string().as_bytes()).unwrap();
        let api = NodeApi::new(options("node-1.example", &kubeconfig)).await.unwrap();
        assert_eq!(api.server(), "https://192.0.2.1:6443");
        api.rebuild().await.unwrap();
    }

    #[tokio::test]
    async fn what_is_unusable_is_named() {
        let missing = std::path::Path::new("/no/such/kubeconfig");
        let error = NodeApi::new(options("a", missing)).await.unwrap_err();
        assert_eq!(error.reason(), "ApiConfigUnusable");
        assert!(chain(&error).contains("/no/such/kubeconfig"), "{}", chain(&error));
        for name in ["", "a,b", "a=b", "A", "a/b"] {
            let error = NodeApi::new(options(name, missing)).await.unwrap_err();
            assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
        }
    }
}
