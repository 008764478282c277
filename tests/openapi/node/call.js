// One call through the vendor's Node SDK: what is answered, or the code it is refused with, as JSON on stdout.
const rds = require('@alicloud/rds20140815')
const { Config } = require('@alicloud/openapi-client')

async function main () {
  const { endpoint, id, secret, action, parameters } = JSON.parse(process.argv[2])
  const client = new rds.default(new Config({
    accessKeyId: id, accessKeySecret: secret, endpoint, protocol: 'http', regionId: 'cn-hangzhou'
  }))
  const method = action[0].toLowerCase() + action.slice(1)
  try {
    const answer = await client[method](new rds[`${action}Request`](parameters))
    console.log(JSON.stringify(answer.body))
  } catch (error) {
    console.log(JSON.stringify({ code: error.code }))
  }
}

main()
