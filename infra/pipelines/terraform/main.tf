# May a flow be deployed now? Whatever depends on this module is only touched while the gate says yes.

terraform {
  required_version = ">= 1.4"

  required_providers {
    external = {
      source  = "hashicorp/external"
      version = "~> 2.3"
    }
  }
}

# Asked while applying, however old the plan is: `timestamp()` is not known before. A program that is missing, fails or answers
# something else is an error, and with that a no.
data "external" "gate" {
  program = concat(
    [var.serin, "gate", var.flow, "--terraform", "--stage", var.stage],
    var.region == null ? [] : ["--region", var.region],
    var.holder == null ? [] : ["--holder", var.holder],
  )
  query = { asked_at = timestamp() }
}

resource "terraform_data" "gate" {
  lifecycle {
    precondition {
      condition     = data.external.gate.result.open == "true"
      error_message = "The gate of ${var.flow} is closed (${data.external.gate.result.code}): ${data.external.gate.result.answer}"
    }
  }
}
