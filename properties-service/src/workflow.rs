//! The adapter to Step Functions: answers waiting tasks and reads the input of executions. A dead token is
//! a result here, not an error. It never logs a token.

use aws_sdk_sfn::Client;
use aws_sdk_sfn::operation::describe_execution::DescribeExecutionError;
use aws_sdk_sfn::operation::send_task_success::SendTaskSuccessError;
use lambda_kit::CallError;

use crate::domain::{TaskToken, Wake};
use crate::ports::{Executions, Woken};

/// The executions of this account's state machines. A token identifies its execution.
#[derive(Debug, Clone)]
pub struct StepFunctions {
    client: Client,
}

impl StepFunctions {
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

impl Executions for StepFunctions {
    async fn wake(&self, token: &TaskToken, with: &Wake) -> Result<Woken, CallError> {
        let output = serde_json::to_string(with).map_err(CallError::refused)?;
        let sent = self.client.send_task_success().task_token(token.reveal()).output(output).send().await;
        match sent {
            Ok(_) => Ok(Woken::Now),
            Err(error) if error.as_service_error().is_some_and(is_dead) => Ok(Woken::DeadAlready),
            Err(error) => Err(without(token, CallError::from_sdk(error))),
        }
    }

    async fn input(&self, execution_arn: &str) -> Result<Option<String>, CallError> {
        match self.client.describe_execution().execution_arn(execution_arn).send().await {
            Ok(described) => Ok(described.input),
            Err(error) if error.as_service_error().is_some_and(is_unknown) => Ok(None),
            Err(error) => Err(CallError::from_sdk(error)),
        }
    }
}

/// There is no such execution.
/// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_DescribeExecution.html#API_DescribeExecution_Errors>
fn is_unknown(error: &DescribeExecutionError) -> bool {
    error.is_execution_does_not_exist() || error.is_invalid_arn()
}

/// No retry can help: no task waits with this token.
/// <https://docs.aws.amazon.com/step-functions/latest/apireference/API_SendTaskSuccess.html#API_SendTaskSuccess_Errors>
fn is_dead(error: &SendTaskSuccessError) -> bool {
    error.is_task_timed_out() || error.is_task_does_not_exist() || error.is_invalid_token()
}

/// Removes the token from the error, which goes to the log: a validation error repeats the value.
fn without(token: &TaskToken, cause: CallError) -> CallError {
    cause.map_text(|text| text.replace(token.reveal(), "(token)"))
}

#[cfg(test)]
mod tests {
    use aws_sdk_sfn::types::error::{InvalidOutput, InvalidToken, TaskDoesNotExist, TaskTimedOut};

    use super::*;

    /// Known fault 13: a token that was dead failed the stream's batch again and again.
    #[test]
    fn a_token_that_is_dead_already_is_done_and_anything_else_is_an_error() {
        assert!(is_dead(&SendTaskSuccessError::TaskTimedOut(TaskTimedOut::builder().build())));
        assert!(is_dead(&SendTaskSuccessError::TaskDoesNotExist(TaskDoesNotExist::builder().build())));
        assert!(is_dead(&SendTaskSuccessError::InvalidToken(InvalidToken::builder().build())));
        assert!(!is_dead(&SendTaskSuccessError::InvalidOutput(InvalidOutput::builder().build())));
    }

    /// Known fault 30: task tokens were logged.
    #[test]
    fn an_error_that_repeats_the_token_loses_it_before_it_is_logged() {
        let cause = CallError::Unavailable("Value 'secret' at 'taskToken' is too short".into());
        assert_eq!(
            without(&"secret".into(), cause).to_string(),
            "Value '(token)' at 'taskToken' is too short"
        );
    }
}
