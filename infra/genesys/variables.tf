variable "genesys_role_arn" {
  description = "The stack's output GenesysRoleArn: the role that Genesys Cloud assumes"
  type        = string
}

variable "random_percentage_live_arn" {
  description = "The stack's output RandomPercentageLiveArn, in the region of your organization"
  type        = string
}

variable "entry" {
  description = "Which of the three flows to publish. One: a cop has one source"
  type        = string
  default     = "traffic-cop"

  validation {
    condition     = contains(["traffic-cop", "traffic-cop-pointer", "in-flow-gate"], var.entry)
    error_message = "entry is traffic-cop, traffic-cop-pointer or in-flow-gate."
  }
}

variable "serin_flow" {
  description = "The flow's name in Serin, as in the rollout file"
  type        = string
  default     = "main_ivr"

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,64}$", var.serin_flow))
    error_message = "serin_flow is 1 to 64 letters, digits, _ or -."
  }
}

variable "entry_flow" {
  description = "Name in Architect of the flow published here. A new name makes a second flow and leaves the first one where it is"
  type        = string
  default     = "Main_IVR_TrafficCop"
}

variable "stable_flow" {
  description = "Name in Architect of the stable flow. It exists and is published"
  type        = string
  default     = "Main_IVR_Blue"
}

variable "canary_flow" {
  description = "Name in Architect of the canary flow. It exists and is published"
  type        = string
  default     = "Main_IVR_Green"
}

variable "next_flow" {
  description = "in-flow-gate: name in Architect of the flow that follows both branches"
  type        = string
  default     = "Main_IVR_Next"
}

variable "labels" {
  description = "The rollout file's labels. They must differ in more than upper and lower case"
  type        = object({ stable = string, canary = string })
  default     = { stable = "v1", canary = "v2" }

  validation {
    condition     = lower(var.labels.stable) != lower(var.labels.canary) && var.labels.canary != "" && !strcontains(var.labels.canary, "\"")
    error_message = "The labels differ in more than case, and the canary's is neither empty nor contains a quotation mark."
  }
}

variable "phone_numbers" {
  description = "Numbers (E.164) of an IVR configuration made here. Empty: point your own at the flow, once you have called it from a test number"
  type        = set(string)
  default     = []
}
