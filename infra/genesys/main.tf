# CX as Code for the Genesys side of Serin. An example: written against the provider's documentation and never applied here, so
# validate in your organization (terraform plan, then a test number) before callers meet it. README.md beside this file has the order.

terraform {
  required_version = ">= 1.5"
  required_providers {
    genesyscloud = {
      source  = "mypurecloud/genesyscloud"
      version = "1.84.1"
    }
  }
}

# Reads GENESYSCLOUD_OAUTHCLIENT_ID, GENESYSCLOUD_OAUTHCLIENT_SECRET and GENESYSCLOUD_REGION. Not one of the two clients Serin uses.
provider "genesyscloud" {}

locals {
  # The definition is written once: the same file can be posted to /api/v2/integrations/actions without Terraform.
  action = jsondecode(file("${path.module}/random-percentage.data-action.json"))

  entries = {
    traffic-cop         = "${path.module}/traffic-cop.yaml"
    traffic-cop-pointer = "${path.module}/traffic-cop-pointer.yaml"
    in-flow-gate        = "${path.module}/in-flow-gate.yaml"
  }

  outcomes = { stable = "Serin stable", canary = "Serin canary" }
}

# What Genesys Cloud assumes to call the function: a role's name, no secret.
resource "genesyscloud_integration_credential" "serin" {
  name                 = "Serin"
  credential_type_name = "amazonWebServicesARN"
  fields               = { ARN = var.genesys_role_arn }
}

resource "genesyscloud_integration" "serin" {
  integration_type = "aws-lambda-data-actions"
  intended_state   = "ENABLED"
  config {
    name       = local.action.category
    notes      = "Asks Serin's random-percentage which flow a call gets."
    properties = jsonencode({})
    advanced   = jsonencode({})
    # The key is the credential's slot in the integration type, spelled as in Genesys' own Terraform modules.
    credentials = { AmazonWebServicesARN = genesyscloud_integration_credential.serin.id }
  }
}

resource "genesyscloud_integration_action" "random_percentage" {
  name                   = local.action.name
  category               = local.action.category
  integration_id         = genesyscloud_integration.serin.id
  secure                 = local.action.secure
  config_timeout_seconds = local.action.config.timeoutSeconds
  contract_input         = jsonencode(local.action.contract.input.inputSchema)
  contract_output        = jsonencode(local.action.contract.output.successSchema)

  config_request {
    request_url_template = var.random_percentage_live_arn
    request_type         = local.action.config.request.requestType
    request_template     = local.action.config.request.requestTemplate
    headers              = local.action.config.request.headers
  }

  config_response {
    translation_map          = local.action.config.response.translationMap
    translation_map_defaults = local.action.config.response.translationMapDefaults
    success_template         = local.action.config.response.successTemplate
  }

  # A changed contract would replace the action under a new id, and published flows would lose it (their calls go to stable). Add an
  # action under another name instead, publish the flow with it, and remove the old one.
  lifecycle {
    prevent_destroy = true
  }
}

# The table alone, for the pointer. Its rows are written at run time; rows of Terraform's would be written back by the next apply, in the
# middle of a rollout.
resource "genesyscloud_architect_datatable" "deployment_control" {
  name        = "Deployment_Control"
  description = "Which flow gets the calls. One row for each flow, the key is its name in Serin."

  properties {
    name  = "key"
    type  = "string"
    title = "Flow in Serin"
  }
  properties {
    name  = "Active_Flow_ID"
    type  = "string"
    title = "Id of the flow that gets the calls (for people)"
  }
  properties {
    name    = "Traffic_Weight"
    type    = "integer"
    title   = "100 is canary, everything else is stable"
    default = "0"
  }
  properties {
    name    = "revision"
    type    = "integer"
    title   = "Counts the writes"
    default = "0"
  }
  properties {
    name  = "owner"
    type  = "string"
    title = "Installation of Serin that writes the row"
  }

  lifecycle {
    prevent_destroy = true # with its rows
  }
}

# Flow outcomes cannot be deleted, hence two and never one for each release.
resource "genesyscloud_flow_outcome" "branch" {
  for_each    = var.entry == "in-flow-gate" ? local.outcomes : {}
  name        = each.value
  description = "The ${each.key} branch of flows with Serin's gate."
}

# Publishes. Everything the YAML names must exist by then, under that name.
resource "genesyscloud_flow" "entry" {
  filepath = local.entries[var.entry]
  substitutions = {
    cop_flow       = var.entry_flow
    gate_flow      = var.entry_flow
    serin_flow     = var.serin_flow
    stable_flow    = var.stable_flow
    canary_flow    = var.canary_flow
    next_flow      = var.next_flow
    stable_label   = var.labels.stable
    canary_label   = var.labels.canary
    stable_outcome = local.outcomes.stable
    canary_outcome = local.outcomes.canary
  }
  # force_unlock stays off: it would publish whatever draft a person has open.

  depends_on = [
    genesyscloud_integration_action.random_percentage,
    genesyscloud_architect_datatable.deployment_control,
    genesyscloud_flow_outcome.branch,
  ]
}

resource "genesyscloud_architect_ivr" "entry" {
  count              = length(var.phone_numbers) > 0 ? 1 : 0
  name               = "${var.entry_flow} (Serin)"
  description        = "Leads to Serin's entry flow."
  dnis               = var.phone_numbers
  open_hours_flow_id = genesyscloud_flow.entry.id
}

output "entry_flow_id" {
  description = "Point the IVR configuration of your numbers at this flow"
  value       = genesyscloud_flow.entry.id
}
