//! The handler behind the SDK: what the gateway offers, and who does it.

use std::borrow::Cow;
use std::sync::Arc;

use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CancelTaskParams, CompleteRequestParams,
    CompleteResult, CustomRequest, CustomResult, DiscoverResult, ErrorCode, GetPromptRequestParams,
    GetPromptResponse, GetTaskParams, GetTaskResult, Implementation, InitializeRequestParams,
    InitializeResult, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult,
    MetaObject, PaginatedRequestParams, ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse,
    ServerCapabilities, ServerConfig, SubscriptionFilter, UpdateTaskParams,
};
use rmcp::service::{RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use tokio::sync::Semaphore;

use super::exchange::Exchange;
use super::inflight::Inflight;
use super::message::Era;
use super::options::McpOptions;
use super::{listen, tasks, told_back, tools};
use crate::core::Gateway;

/// Asserted by clients and tests of the original.
const NAME: &str = "asya-gateway";

/// Serves requests. Clones share everything: the SDK makes one for each request.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) gateway: Gateway,
    pub(super) options: Arc<McpOptions>,
    /// Held calls of old clients.
    pub(super) inflight: Inflight,
    /// One permit for each stream.
    pub(super) streams: Arc<Semaphore>,
}

impl Server {
    pub(super) fn new(gateway: Gateway, options: McpOptions) -> Self {
        let streams = Arc::new(Semaphore::new(options.max_streams.min(Semaphore::MAX_PERMITS)));
        Self {
            gateway,
            options: Arc::new(options),
            inflight: Inflight::default(),
            streams,
        }
    }
}

/// Says in the result of a stateless request who made it; sessions have told it at their beginning.
pub(super) fn sign(meta: &mut Option<MetaObject>, era: Era) {
    if era == Era::Stateless
        && let Ok(info) = serde_json::to_value(implementation())
    {
        let meta = meta.get_or_insert_default();
        meta.insert("io.modelcontextprotocol/serverInfo".to_owned(), info);
    }
}

fn implementation() -> Implementation {
    Implementation::new(NAME, env!("CARGO_PKG_VERSION"))
}

fn not_supported(what: &str) -> ErrorData {
    ErrorData::new(ErrorCode::METHOD_NOT_FOUND, format!("{what} not supported"), None)
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_tasks()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(implementation())
            // What a handshake falls back to; the SDK answers a version that it knows with that version.
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(ProtocolVersion::KNOWN_VERSIONS)
    }

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        context.peer.set_peer_info(request.clone());
        let mut result = self.negotiate_initialize(&request)?;
        // Extensions came with the stateless revision, and a session is not told of what it cannot use.
        result.capabilities.extensions = None;
        Ok(result)
    }

    async fn discover(&self, _context: RequestContext<RoleServer>) -> Result<DiscoverResult, ErrorData> {
        let versions = self.supported_protocol_versions().into_owned();
        let result = DiscoverResult::from_server_info(versions, self.get_info());
        Ok(result.with_ttl_ms(tasks::millis(self.options.cache)))
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let exchange = Exchange::of(&context.extensions)?;
        if request.is_some_and(|request| request.cursor.is_some()) {
            let text = "there is one page of tools; ask without a cursor";
            return Err(ErrorData::invalid_params(text, None));
        }
        let mut result = ListToolsResult::with_all_items(tools::list(&self.gateway.tools(), exchange.era));
        if exchange.era == Era::Stateless {
            result.ttl_ms = Some(tasks::millis(self.options.cache));
            result.cache_scope = Some(CacheScope::Private);
        }
        sign(&mut result.meta, exchange.era);
        Ok(result)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.call(&request, &context).await
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.task(&request.task_id, &context).await
    }

    async fn update_task(
        &self,
        request: UpdateTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.answer_task(&request.task_id, &context).await
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.withdraw_task(&request.task_id, &context).await
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        let filter = SubscriptionFilter::builder();
        Some(match requested.tools_list_changed {
            Some(true) => filter.tools_list_changed().build(),
            _ => filter.build(),
        })
    }

    async fn listen(&self, subscription: SubscriptionContext) -> Result<(), ErrorData> {
        listen::serve(self, subscription).await
    }

    async fn complete(
        &self,
        _request: CompleteRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        Err(not_supported("completions"))
    }

    async fn list_prompts(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Err(not_supported("prompts"))
    }

    async fn get_prompt(
        &self,
        _request: GetPromptRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        Err(not_supported("prompts"))
    }

    async fn list_resources(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Err(not_supported("resources"))
    }

    async fn list_resource_templates(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Err(not_supported("resources"))
    }

    async fn read_resource(
        &self,
        _request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        Err(not_supported("resources"))
    }

    /// The SDK takes a request whose parameters it cannot read for one of an unknown method.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        const KNOWN: [&str; 10] = [
            "initialize",
            "ping",
            "server/discover",
            "tools/list",
            "tools/call",
            "tasks/get",
            "tasks/update",
            "tasks/cancel",
            "subscriptions/listen",
            "completion/complete",
        ];
        let method = request.method;
        if KNOWN.contains(&method.as_str()) {
            let text = format!(
                "the parameters of {method} are not what it takes: a key is missing or of a wrong type"
            );
            return Err(ErrorData::invalid_params(text, None));
        }
        let text = format!("Method {} not found", told_back(&method));
        Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, text, None))
    }
}
