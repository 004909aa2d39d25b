variable "flow" {
  type        = string
  description = "The flow's name in Serin, such as main_ivr"
}

variable "stage" {
  type        = string
  default     = "prod"
  description = "Installation of Serin"
}

variable "region" {
  type        = string
  default     = null
  description = "AWS region; null takes the environment's"
}

variable "holder" {
  type        = string
  default     = null
  description = "Who holds the gate, if the pipeline did so with `serin gate --hold`; null takes the pipeline's, as `serin` does"
}

variable "serin" {
  type        = string
  default     = "serin"
  description = "The program"
}
