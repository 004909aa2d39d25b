# The canary flow is published by Terraform; the rollout is opened afterwards, by `serin start rollout.yaml --reason …`. Keep it apart
# from everything else: while a rollout runs, nothing in this configuration can be applied.

terraform {
  required_providers {
    genesyscloud = {
      source = "mypurecloud/genesyscloud"
    }
  }
}

module "gate" {
  source = "../" # here: of your copy of this repository

  flow   = "main_ivr"
  region = "eu-central-1"
}

resource "genesyscloud_flow" "canary" {
  filepath          = "${path.module}/Main_IVR_Green.yaml"
  file_content_hash = filesha256("${path.module}/Main_IVR_Green.yaml")

  # The module alone would do (`depends_on`); the precondition says at the resource why it was not touched.
  depends_on = [module.gate]

  lifecycle {
    precondition {
      condition     = module.gate.open
      error_message = "Flow main_ivr is not deployed now: ${module.gate.answer}"
    }
  }
}
