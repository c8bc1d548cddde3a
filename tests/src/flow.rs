//! Follows a contract and a listing from HTTP to search, hop by hop. If a hop does not happen, the error
//! names the part of a template that makes it.

use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use unicorn::client::{Client, until};

use crate::templates::{CONTRACTS, PROPERTIES, WEB};
use crate::{PATIENCE, outcome, put_event, service_of};

/// A part of a template that the flow needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The template, relative to the project.
    pub file: &'static str,
    /// A resource, or an operation of an API.
    pub name: &'static str,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {}", self.name, self.file)
    }
}

const fn part(file: &'static str, name: &'static str) -> Part {
    Part { file, name }
}

/// Publishes the changes of contracts.
pub const STATUS_PIPE: Part = part(CONTRACTS, "StatusPipe");

/// Every rule, including those that SAM creates from events of functions.
pub const RULES: [Part; 12] = [
    CONTRACTS_LOG,
    PROPERTIES_LOG,
    WEB_LOG,
    CONTRACT_TO_PROPERTIES,
    CONTRACT_TO_WEB,
    REQUEST_TO_PROPERTIES,
    EVALUATION_TO_WEB,
    KEEPS_STATUS,
    STARTS_WORKFLOW,
    ANSWERS_FOR_THE_DEAD,
    APPLIES_EVALUATION,
    TAKES_LISTING_DOWN,
];

const CONTRACTS_LOG: Part = part(CONTRACTS, "CatchAllRule");
const PROPERTIES_LOG: Part = part(PROPERTIES, "PropertiesCatchAllRule");
const WEB_LOG: Part = part(WEB, "WebCatchAllRule");
const CONTRACT_TO_PROPERTIES: Part =
    part("properties-service/subscriptions.yaml", "ContractStatusChangedRule");
const CONTRACT_TO_WEB: Part = part("web-service/subscriptions.yaml", "ContractStatusChangedRule");
const REQUEST_TO_PROPERTIES: Part =
    part("properties-service/subscriptions.yaml", "PublicationApprovalRequestedRule");
const EVALUATION_TO_WEB: Part = part("web-service/subscriptions.yaml", "PublicationEvaluationCompletedRule");
const KEEPS_STATUS: Part = part(PROPERTIES, "OnContractStatusChangedRule");
const STARTS_WORKFLOW: Part = part(PROPERTIES, "ApprovalRequestedRule");
const ANSWERS_FOR_THE_DEAD: Part = part(PROPERTIES, "OnApprovalEndedRule");
const APPLIES_EVALUATION: Part = part(WEB, "OnEvaluationCompletedRule");
const TAKES_LISTING_DOWN: Part = part(WEB, "OnContractEndedRule");

/// The URL-encodings of bodies and paths that go into a queue. `PUT /contracts` is not among them: no valid
/// value of it has a character that the encoding changes (`tests/bad_input.rs` tests it).
pub const ENCODINGS: [Part; 4] = [ENCODED_CREATE, ENCODED_LISTING, ENCODED_REQUEST, ENCODED_WITHDRAWAL];

const ENCODED_CREATE: Part = part("contracts-service/api.yaml", "$util.urlEncode in POST /contracts");
const ENCODED_UPDATE: Part = part("contracts-service/api.yaml", "$util.urlEncode in PUT /contracts");
const ENCODED_LISTING: Part = part("web-service/api.yaml", "$util.urlEncode in POST /listings");
const ENCODED_REQUEST: Part = part("web-service/api.yaml", "$util.urlEncode in POST /request_approval");
const ENCODED_WITHDRAWAL: Part =
    part("web-service/api.yaml", "$util.urlEncode in DELETE /listings/{country}/{city}/{street}/{number}");

/// Wakes executions that wait. It is an event source mapping.
const WAKES: Part = part(PROPERTIES, "ContractStatusStreamMapping");

/// The state in which an execution waits for its contract.
const WORKFLOW: Part = part("properties-service/approval.asl.yaml", "WaitForContractApproval");

/// A text that a step changes or cuts if it forgets to encode or to escape.
pub const CORPUS: &str = "Smith & Sons &DelaySeconds=900 + 100 % %26 # \"quoted\" \\ back\nnew line 🦄 é";

/// The seller's name, which must not be in any event or log.
pub const SELLER: &str = "Zebediah Quill";

/// The three buses: the output with the bus, the output with its log, and the rule that logs.
const LOGS: [(&str, &str, Part); 3] = [
    ("ContractsEventBusName", "ContractsCatchAllLogGroupArn", CONTRACTS_LOG),
    ("PropertiesEventBusName", "PropertiesCatchAllLogGroupArn", PROPERTIES_LOG),
    ("WebEventBusName", "WebCatchAllLogGroupArn", WEB_LOG),
];

/// One run of the flow.
#[derive(Debug, Clone, Copy)]
pub struct Flow<'a> {
    client: &'a Client,
    /// The part that is missing: the flow waits only briefly for its hop.
    missing: Option<Part>,
}

impl<'a> Flow<'a> {
    /// A flow in which every hop must happen.
    pub fn new(client: &'a Client) -> Self {
        Self { client, missing: None }
    }

    /// A flow that must fail at `part`.
    pub fn without(client: &'a Client, part: Part) -> Self {
        Self { client, missing: Some(part) }
    }

    /// From HTTP into search and out of it, and once with an execution that is aborted.
    ///
    /// # Errors
    /// The first hop that does not happen, and the part of a template that makes it.
    pub async fn run(&self) -> anyhow::Result<()> {
        self.buses_are_logged().await?;
        let house = House(11);
        self.contract_reaches_the_other_services(house).await?;
        self.listing_waits_for_its_contract(house).await?;
        self.listing_is_published(house).await?;
        self.listing_comes_down_with_its_contract(house).await?;
        self.a_dead_workflow_is_answered(House(12)).await?;
        self.a_withdrawal_carries_its_path_whole().await
    }

    async fn buses_are_logged(&self) -> anyhow::Result<()> {
        for (bus, log, rule) in LOGS {
            let bus = self.client.output(bus)?;
            let id = put_event(self.client, bus, "unicorn-tests", "Marker", &json!({})).await?;
            self.hop(rule, &format!("log entry of an event on {bus}"), async || {
                let logged = self.client.logged(&self.client.log_group(log)?).await?;
                Ok(logged.into_iter().find(|event| event["id"] == id.as_str()))
            })
            .await?;
        }
        Ok(())
    }

    async fn contract_reaches_the_other_services(&self, house: House) -> anyhow::Result<()> {
        self.write(ENCODED_CREATE, Method::POST, "/contracts", &house.contract()).await?;
        let contract = self.client.get(&format!("/contracts/{}", house.id())).await?.body;
        ensure!(
            contract["seller_name"] == House::seller(),
            "the seller's name was changed on its way ({}): is {ENCODED_CREATE} in place?",
            contract["seller_name"]
        );
        for (output, part) in [
            ("ContractsCatchAllLogGroupArn", STATUS_PIPE),
            ("PropertiesCatchAllLogGroupArn", CONTRACT_TO_PROPERTIES),
            ("WebCatchAllLogGroupArn", CONTRACT_TO_WEB),
        ] {
            self.event(part, output, "ContractStatusChanged", house, ("contract_status", "DRAFT")).await?;
        }
        self.hop(KEEPS_STATUS, "contract status in the table of the approval service", async || {
            let input = json!({
                "TableName": self.client.output("ContractStatusTableName")?,
                "Key": {"property_id": {"S": house.id()}},
            });
            let found = self.client.aws("DynamoDB_20120810.GetItem", &input).await?;
            Ok((!found["Item"].is_null()).then_some(()))
        })
        .await
    }

    async fn listing_waits_for_its_contract(&self, house: House) -> anyhow::Result<String> {
        self.write(ENCODED_LISTING, Method::POST, "/listings", &house.listing()).await?;
        let view = self.client.get(&format!("/listings/{}", house.id())).await?.body;
        ensure!(
            view["description"] == house.listing()["description"],
            "the description was changed on its way ({}): is {ENCODED_LISTING} in place?",
            view["description"]
        );
        let request = json!({"property_id": house.id(), "note": CORPUS});
        self.write(ENCODED_REQUEST, Method::POST, "/request_approval", &request).await?;
        for (output, part) in [
            ("WebCatchAllLogGroupArn", part(WEB, "WebIngestFunction")),
            ("PropertiesCatchAllLogGroupArn", REQUEST_TO_PROPERTIES),
        ] {
            self.event(part, output, "PublicationApprovalRequested", house, ("status", "PENDING")).await?;
        }
        let execution = self
            .hop(STARTS_WORKFLOW, "execution of the approval workflow", async || {
                execution_of(self.client, &house.id()).await
            })
            .await?;
        self.hop(WORKFLOW, "execution that waits for its contract", async || {
            Ok(is_waiting(self.client, &execution).await?.then_some(()))
        })
        .await?;
        ensure!(!self.is_found(house).await?, "a listing was in search before it was approved");
        Ok(execution)
    }

    async fn listing_is_published(&self, house: House) -> anyhow::Result<()> {
        let approve = json!({"property_id": house.id(), "status": "APPROVED"});
        self.write(ENCODED_UPDATE, Method::PUT, "/contracts", &approve).await?;
        for (output, part) in
            [("PropertiesCatchAllLogGroupArn", WAKES), ("WebCatchAllLogGroupArn", EVALUATION_TO_WEB)]
        {
            let result = ("evaluation_result", "APPROVED");
            self.event(part, output, "PublicationEvaluationCompleted", house, result).await?;
        }
        self.hop(APPLIES_EVALUATION, "approved listing in search", async || {
            Ok(self.is_found(house).await?.then_some(()))
        })
        .await
    }

    async fn listing_comes_down_with_its_contract(&self, house: House) -> anyhow::Result<()> {
        let cancel = json!({"property_id": house.id(), "status": "CANCELLED"});
        self.write(ENCODED_UPDATE, Method::PUT, "/contracts", &cancel).await?;
        self.hop(TAKES_LISTING_DOWN, "end of a listing whose contract ended", async || {
            let view = self.client.get(&format!("/listings/{}", house.id())).await?.body;
            Ok((view["evaluation_reasons"] == json!(["contract_ended"])).then_some(()))
        })
        .await?;
        ensure!(!self.is_found(house).await?, "a listing whose contract ended is still in search");
        Ok(())
    }

    async fn a_dead_workflow_is_answered(&self, house: House) -> anyhow::Result<()> {
        self.contract_reaches_the_other_services(house).await?;
        let execution = self.listing_waits_for_its_contract(house).await?;
        self.client.aws("AWSStepFunctions.StopExecution", &json!({"executionArn": execution})).await?;
        let result = ("evaluation_result", "DECLINED");
        let log = "PropertiesCatchAllLogGroupArn";
        let answer =
            self.event(ANSWERS_FOR_THE_DEAD, log, "PublicationEvaluationCompleted", house, result).await?;
        ensure!(
            answer["detail"]["evaluation_reasons"] == json!(["evaluation_failed"]),
            "an aborted execution got another answer: {answer}"
        );
        Ok(())
    }

    /// A path with an encoded parameter of the queue call adds no parameter: no property has such an id.
    async fn a_withdrawal_carries_its_path_whole(&self) -> anyhow::Result<()> {
        const SMUGGLED: &str = "usa%26DelaySeconds%3D900";
        for at in 0..4 {
            let mut segments = ["usa", "anytown", "main-street", "11"];
            segments[at] = SMUGGLED;
            let path = format!("/listings/{}", segments.join("/"));
            let record = self.decided(ENCODED_WITHDRAWAL, Method::DELETE, &path, None).await?;
            ensure!(
                record["status"] == "REJECTED",
                "{path} withdrew a listing ({record}): is {ENCODED_WITHDRAWAL} in place?"
            );
        }
        Ok(())
    }

    /// Sends a write that must be applied.
    async fn write(&self, part: Part, method: Method, path: &str, body: &Value) -> anyhow::Result<()> {
        let record = self.decided(part, method, path, Some(body)).await?;
        ensure!(record["status"] == "APPLIED", "{path} was rejected ({record}): is {part} in place?");
        Ok(())
    }

    async fn decided(
        &self,
        part: Part,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let named = || format!("no {method} {path} that arrives whole: is {part} in place?");
        let command = self.client.write(method.clone(), path, body).await.with_context(named)?;
        outcome(self.client, service_of(path), &command, self.patience(part)).await.with_context(named)
    }

    /// Waits until a bus has logged an event of a property whose detail has the pair `member`.
    async fn event(
        &self,
        part: Part,
        log: &str,
        detail_type: &str,
        house: House,
        member: (&str, &str),
    ) -> anyhow::Result<Value> {
        let group = self.client.log_group(log)?;
        let what = format!("{detail_type} {} in {group}", member.1);
        self.hop(part, &what, async || {
            let logged = self.client.logged(&group).await?;
            Ok(logged.into_iter().find(|event| {
                event["detail-type"] == detail_type
                    && event["detail"]["property_id"] == house.id()
                    && event["detail"][member.0] == member.1
            }))
        })
        .await
    }

    async fn hop<T>(
        &self,
        part: Part,
        what: &str,
        question: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let named = || format!("no {what}: is {part} in place?");
        until(what, self.patience(part), question).await.with_context(named)
    }

    fn patience(&self, part: Part) -> Duration {
        if self.missing == Some(part) { Duration::from_secs(2) } else { PATIENCE }
    }

    async fn is_found(&self, house: House) -> anyhow::Result<bool> {
        let answer = self.client.get("/search/usa/anytown").await?;
        let results = answer.body.as_array().with_context(|| format!("search answered {}", answer.body))?;
        Ok(results.iter().any(|result| result["number"] == house.0))
    }
}

/// A property of the flow, by its house number in Main Street, Anytown.
#[derive(Debug, Clone, Copy)]
pub struct House(pub u32);

impl House {
    /// Its property id.
    pub fn id(self) -> String {
        format!("usa/anytown/main-street/{}", self.0)
    }

    /// Its address as an agent writes it.
    pub fn address(self) -> Value {
        json!({"country": "USA", "city": "Anytown", "street": "Main Street", "number": self.0})
    }

    fn seller() -> String {
        format!("{SELLER}, {CORPUS}")
    }

    /// The body of `POST /contracts`.
    pub fn contract(self) -> Value {
        json!({"property_id": self.id(), "address": self.address(), "seller_name": House::seller()})
    }

    /// The body of `POST /listings`: an evaluation approves it, and its image is in the seed data.
    pub fn listing(self) -> Value {
        json!({
            "address": self.address(), "contract": "sale", "listprice": 350_000, "currency": "USD",
            "description": format!("A lovely home with a wonderful garden. {CORPUS}"),
            "images": ["usa/anytown/main-street-111.png"],
        })
    }
}

/// The execution that was started for a property.
///
/// # Errors
/// When the endpoint refuses the call.
pub async fn execution_of(client: &Client, property: &str) -> anyhow::Result<Option<String>> {
    let list = json!({"stateMachineArn": client.output("ApprovalStateMachineArn")?});
    let executions = client.aws("AWSStepFunctions.ListExecutions", &list).await?;
    for execution in executions["executions"].as_array().into_iter().flatten() {
        let arn = json!({"executionArn": execution["executionArn"]});
        let described = client.aws("AWSStepFunctions.DescribeExecution", &arn).await?;
        let input: Value = serde_json::from_str(described["input"].as_str().unwrap_or("null"))?;
        if input["detail"]["property_id"] == property {
            return Ok(execution["executionArn"].as_str().map(str::to_owned));
        }
    }
    Ok(None)
}

/// Whether an execution has handed out its task token in the state that waits for the contract.
///
/// # Errors
/// When the endpoint refuses the call.
pub async fn is_waiting(client: &Client, execution: &str) -> anyhow::Result<bool> {
    let arn = json!({"executionArn": execution});
    let history = client.aws("AWSStepFunctions.GetExecutionHistory", &arn).await?;
    let events = history["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    let entered = |event: &Value| event["stateEnteredEventDetails"]["name"] == WORKFLOW.name;
    let at = events.iter().position(entered).unwrap_or(events.len());
    Ok(events[at..].iter().any(|event| event["type"] == "TaskSubmitted"))
}
